"""Images and label maps in OME-Zarr: arrays in chunks, which are read and written block by block."""
