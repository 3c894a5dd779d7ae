"""The definition of a golden checkpoint."""
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    """One folder of tests/golden/MODEL_TYPE/.

    covers: what the checkpoint tests, for its README.
    config: fields of config.json; all other fields have the defaults of transformers' config class.
    deaf: field -> the value that an engine would use if it ignored the field. Each must change a logit by 1e-3.
    n: length of a row of ids.
    dtype: type of the file's weights.
    drop: fields that transformers writes but the published checkpoints lack.
    by_reference: the reason why the logits come from the reference instead of transformers.
    hf: fields that need another value in transformers 4.46 for the same meaning.
    stepwise: whether transformers must be run one token at a time.
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
