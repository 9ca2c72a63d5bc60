"""llama.cpp's converter, held to what a folder says: one class around that of an architecture.

Only the Python of the converter's environment imports what it needs.
"""

import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

SCRIPT = Path(sys.prefix, "share/llama.cpp/convert_hf_to_gguf.py")


class Conversion(NamedTuple):
    """How a folder is converted.

    Attributes:
        kind: the type of most weights, and of what is stored in no type that GGUF has: F32, F16,
            BF16.
        templates: by name; none leaves what the converter finds.
        left_out: the name of a tensor that the model does not use; empty where there is none.
        drafting: whether the weights have a layer for drafting.
    """

    kind: str
    templates: dict[str, str]
    left_out: str
    drafting: bool


def write(folder: Path, output: Path, plan: Conversion) -> None:
    """Write a folder's model to `output`, by the class that llama.cpp has for it.

    Matrices keep their types. What is joined of several types, such as experts, becomes F32, which
    holds all of them.

    Raises:
        NotImplementedError: there is no such class.
        Exception: whatever the class raises.
    """
    sys.path.insert(0, str(SCRIPT.parent))
    import torch
    from conversion import ModelBase, ModelType, get_model_architecture, get_model_class
    from gguf import LlamaFileType

    types = {
        "F32": LlamaFileType.ALL_F32,
        "F16": LlamaFileType.MOSTLY_F16,
        "BF16": LlamaFileType.MOSTLY_BF16,
    }
    kinds = {
        torch.float64: "F32",
        torch.float32: "F32",
        torch.float16: "F16",
        torch.bfloat16: "BF16",
    }
    by_name, waiting = {}, defaultdict(set)
    with torch.inference_mode():
        settings = ModelBase.load_hparams(folder, False)
        architecture = get_model_class(get_model_architecture(settings, ModelType.TEXT))

        class Kept(architecture):
            model_arch = architecture.model_arch
            no_mtp = architecture.no_mtp or (architecture.supports_mtp_export and not plan.drafting)

            @classmethod
            def filter_tensors(cls, item):
                return None if item[0] == plan.left_out else super().filter_tensors(item)

            def index_tensors(self, *args, **kwargs):
                found = super().index_tensors(*args, **kwargs)
                own = {name: kinds.get(tensor().dtype, plan.kind) for name, tensor in found.items()}
                by_name.update(own)
                return found

            def modify_tensors(self, data_torch, name, bid):
                made = list(super().modify_tensors(data_torch, name, bid))
                own = {by_name.get(name, plan.kind)}
                if not made:
                    waiting[bid] |= own
                elif sum(values.numel() for _, values in made) > data_torch.numel():
                    own = own | waiting[bid]  # joined with what came before
                self.ftype = types[own.pop() if len(own) == 1 else "F32"]
                return made

            def prepare_metadata(self, *args, **kwargs):
                self.ftype = types[plan.kind]
                super().prepare_metadata(*args, **kwargs)

            def set_vocab(self):
                super().set_vocab()
                if plan.templates:
                    _give_templates(self.gguf_writer, plan.templates)

        Kept(folder, types[plan.kind], output).write()


def _give_templates(writer, templates: dict[str, str]) -> None:
    """Replace the templates that the converter found where they are others."""
    key = "tokenizer.chat_template"
    wanted = {key if name == "default" else f"{key}.{name}": t for name, t in templates.items()}
    written = {k: v for k, v in writer.kv_data[0].items() if k.startswith(key)}
    if {k: v.value for k, v in written.items()} == wanted:
        return
    for found in written:
        writer.remove_key(found)
    for name, template in wanted.items():
        writer.add_string(name, template)
    if names := sorted(templates.keys() - {"default"}):
        writer.add_array(f"{key}s", names)
