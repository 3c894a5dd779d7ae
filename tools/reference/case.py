"""What a golden checkpoint is made from."""
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    """One folder of tests/golden/MODEL_TYPE/.

    covers: what it is there for, for its README.
    config: fields of config.json; the others are the defaults of transformers' config class.
    deaf: field -> the value that an engine which ignores the field would use. Each must move a logit by 1e-3.
    n: length of a row of ids.
    dtype: of the file's weights.
    drop: fields that transformers writes and the published checkpoints lack.
    by_reference: why the logits come from the reference and not from transformers.
    hf: fields that transformers 4.46 needs to be given otherwise to mean the same.
    stepwise: transformers has to be run a token at a time.
    """

    covers: str
    config: dict
    deaf: dict = field(default_factory=dict)
    n: int = 40
    dtype: str = "float32"
    drop: tuple = ()
    by_reference: str = ""
    hf: dict = field(default_factory=dict)
    stepwise: bool = False
