"""MetaCLIP 2: CLIP's towers with XLM-V's tokenizer."""

from __future__ import annotations

from siglip_edge.exporter.families.clip.family import Clip


class MetaClip2(Clip):
    name = model_type = "metaclip_2"
    model_class = "MetaClip2Model"


FAMILY = MetaClip2()
