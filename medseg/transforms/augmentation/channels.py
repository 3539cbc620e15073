"""Channels that are left out, so that the network learns to do without any of them."""

from medseg.transforms.augmentation.batch import Batch, BatchTransform, to_device_of


class RandChannelDropoutBatch(BatchTransform):
    """Sets one or more channels of a sample, never all, to zero: the mean, after z-scoring (ModDrop: Neverova et al.
    2016). How many, and which, are equally likely. Images with one channel stay as they are."""

    def __init__(self, prob: float = 0.0) -> None:
        self.prob = prob

    def randomize(self, n_samples: int, n_channels: int) -> None:
        """Draws ``dropped`` (sample, channel)."""
        chosen = self.R.random_sample(n_samples) < self.prob
        n_dropped = self.R.randint(1, n_channels, n_samples)
        ranks = self.R.random_sample((n_samples, n_channels)).argsort(axis=1).argsort(axis=1)
        self.dropped = chosen[:, None] & (ranks < n_dropped[:, None])

    def __call__(self, data: Batch) -> Batch:
        image = data["image"]
        n_channels = image.shape[1]
        if n_channels < 2:
            return dict(data)
        self.randomize(self.drawn_for(data), n_channels)
        dropped = to_device_of(image, self.dropped[self.own(data)])
        return {**data, "image": image.masked_fill(dropped.view(*dropped.shape, *[1] * (image.ndim - 2)), 0)}
