"""Where a model came from that medseg did not train."""

from pydantic import Field

from medseg.records import Record


class Origin(Record):
    """What is known of a model that another program made. Nothing in it names a path or a case.

    Attributes:
        program: That made it, as "nnU-Net".
        dataset: The name of what it was trained on.
        description: Of the dataset or the model.
        reference: To a publication, or a page.
        licence: As its maker says.
        release: Of the dataset, or the version of the model.
        training_cases: On how many it was trained; None where nobody says.
        details: More of what the program tells: trainer, configuration, folds.
        dice: The mean Dice of each label that the program measured on cases held back from training.
        notes: What differs from how that program predicts.
    """

    program: str
    dataset: str = ""
    description: str = ""
    reference: str = ""
    licence: str = ""
    release: str = ""
    training_cases: int | None = Field(None, ge=0)
    details: dict[str, str] = Field(default_factory=dict)
    dice: dict[str, float] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
