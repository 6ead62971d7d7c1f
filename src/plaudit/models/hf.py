"""The type of a transformers model, as the rest of this room sees it."""

from typing import TYPE_CHECKING

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

if TYPE_CHECKING:
    HFModel = PreTrainedModel
else:
    # peft's wrapper hands every attribute through to the model inside, `encoders.PooledForSequenceClassification` has a
    # classifier's methods; neither is a subclass, so at run time (jaxtyping's checks in tests) any module will do.
    HFModel = nn.Module

HFTokenizer = PreTrainedTokenizerFast
