"""Attention in blocks of queries, in standard operators: memory grows with the length of a row, not with its square.

A traced graph has one operator of DOMAIN per layer. It becomes a `Scan` over blocks of BLOCK queries, whose body
multiplies one block by every key that it can see. Of layers with a short reach, a block reads only the keys near it,
so that their time grows with the length, too. A row of at most BLOCK positions is one block.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import inliner, parser

DOMAIN, OPERATOR = "siglip_edge", "BlockwiseAttention"
BLOCK = 128
"""Queries per block. Products of 16 heads over 8 192 keys take 64 MB; smaller blocks save memory but read the keys
more often."""
LONGEST_AT_ONCE = 1024
"""Towers for longer rows compute attention in blocks: the products of 16 heads over 1024 positions take 64 MB, over
8 192 positions 4 GB."""
HIDDEN = -30_000.0
"""As in `modules.masks`."""

_FUNCTION = """
<opset_import: ["" : {opset}], domain: "{domain}">
{name} (queries, keys, values, padding) => (mixed)
{{
    zero = Constant <value = int64[1] {{0}}> ()
    one = Constant <value = int64[1] {{1}}> ()
    most = Constant <value = int64[1] {{{block}}}> ()
    rows = Shape <start = 0, end = 2> (queries)
    length = Shape <start = 2, end = 3> (queries)
    width = Shape <start = 3, end = 4> (queries)
    block = Min (length, most)
    rounding = Sub (block, one)
    reached = Add (length, rounding)
    count = Div (reached, block)
    padded_length = Mul (count, block)
    missing = Sub (padded_length, length)
    six_zeros = Constant <value = int64[6] {{0, 0, 0, 0, 0, 0}}> ()
    pads = Concat <axis = 0> (six_zeros, missing, zero)
    padded = Pad (queries, pads)
    block_shape = Concat <axis = 0> (rows, count, block, width)
    by_block = Reshape (padded, block_shape)
    blocks = Transpose <perm = [2, 0, 1, 3, 4]> (by_block)
    zero_scalar = Squeeze (zero)
    end_scalar = Squeeze (padded_length)
    step_scalar = Squeeze (block)
    starts = Range (zero_scalar, end_scalar, step_scalar)
    turned = Transpose <perm = [0, 1, 3, 2]> (keys)
    mixed_blocks = Scan <num_scan_inputs = 2, body = one_block (float[N, H, B, D] queries_of_block, int64 start)
        => (float[N, H, B, D] mixed_of_block)
        {{
            {body}
        }}> (blocks, starts)
    together = Transpose <perm = [1, 2, 0, 3, 4]> (mixed_blocks)
    whole_shape = Concat <axis = 0> (rows, padded_length, width)
    whole = Reshape (together, whole_shape)
    two = Constant <value = int64[1] {{2}}> ()
    mixed = Slice (whole, zero, length, two)
}}
"""

_EVERY_KEY = """
            products = MatMul (queries_of_block, turned)
            masked = Add (products, padding)
            {sight}
            weights = Softmax <axis = -1> (seen)
            mixed_of_block = MatMul (weights, values)
"""

_NEAR_KEYS = """
            reach = Constant <value = int64[1] {{{reach}}}> ()
            start_of_block = Unsqueeze (start, zero)
            early = Sub (start_of_block, reach)
            first = Max (early, zero)
            end_of_block = Add (start_of_block, block)
            late = Add (end_of_block, reach)
            end = Min (late, length)
            minus_one = Constant <value = int64[1] {{-1}}> ()
            minus_two = Constant <value = int64[1] {{-2}}> ()
            near_keys = Slice (turned, first, end, minus_one)
            near_values = Slice (values, first, end, minus_two)
            near_padding = Slice (padding, first, end, minus_one)
            products = MatMul (queries_of_block, near_keys)
            masked = Add (products, near_padding)
            {sight}
            weights = Softmax <axis = -1> (seen)
            mixed_of_block = MatMul (weights, near_values)
"""

_SIGHT = """
            step = Constant <value = int64 {{1}}> ()
            first_key = {first_key}
            last_key = {last_key}
            key_places = Range (first_key, last_key, step)
            block_end = Add (start, step_scalar)
            query_places = Range (start, block_end, step)
            query_column = Unsqueeze (query_places, one)
            ahead = Sub (key_places, query_column)
            {hidden}
            hidden_number = Cast <to = 1> (hidden)
            deep = Constant <value = float {{{deep}}}> ()
            term = Mul (hidden_number, deep)
            seen = Add (masked, term)
"""

_AHEAD = "hidden = Greater (ahead, zero_scalar)"
_FAR = """
            distance = Abs (ahead)
            far_from = Constant <value = int64 {{{reach}}}> ()
            {name} = Greater (distance, far_from)
"""


def write_out_attention(path: Path) -> None:
    """Rewrite the graph at `path` in standard operators, where it has operators of DOMAIN; its weights stay."""
    traced = onnx.load(path, load_external_data=False)
    written = in_standard_operators(traced)
    if written is not traced:
        onnx.save(written, path)


def in_standard_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with every operator of DOMAIN written out; the same object when there is none."""
    ours = [node for node in model.graph.node if node.domain == DOMAIN]
    if not ours:
        return model
    opset = next(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
    functions = {}
    for node in ours:
        attributes = {attribute.name: attribute.i for attribute in node.attribute}
        causal, reach = bool(attributes["causal"]), attributes["reach"]
        node.op_type = f"{OPERATOR}_{int(causal)}_{reach if reach >= 0 else 'any'}"
        del node.attribute[:]
        functions[node.op_type] = _function(node.op_type, opset, causal=causal, reach=reach if reach >= 0 else None)
    model.functions.extend(functions.values())
    if all(entry.domain != DOMAIN for entry in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    written = inliner.inline_local_functions(model)
    kept = [entry for entry in written.opset_import if entry.domain != DOMAIN]
    del written.opset_import[:]
    written.opset_import.extend(kept)
    _name_nodes(written.graph, "")
    return written


def _function(name: str, opset: int, *, causal: bool, reach: int | None) -> onnx.FunctionProto:
    body = (_EVERY_KEY if reach is None else _NEAR_KEYS).format(reach=reach, sight=_sight(causal=causal, reach=reach))
    text = _FUNCTION.format(opset=opset, domain=DOMAIN, name=name, block=BLOCK, body=body)
    return parser.parse_function(text)


def _sight(*, causal: bool, reach: int | None) -> str:
    if not causal and reach is None:
        return "seen = Identity (masked)"
    hidden = _AHEAD
    if reach is not None:
        hidden = _FAR.format(reach=reach, name="hidden")
        if causal:
            hidden = "\n".join(
                (
                    _AHEAD.replace("hidden", "hidden_ahead"),
                    _FAR.format(reach=reach, name="hidden_far"),
                    "hidden = Or (hidden_ahead, hidden_far)",
                )
            )
    first_key, last_key = ("Identity (zero_scalar)", "Squeeze (length)")
    if reach is not None:
        first_key, last_key = ("Squeeze (first)", "Squeeze (end)")
    return _SIGHT.format(first_key=first_key, last_key=last_key, hidden=hidden, deep=HIDDEN)


def _name_nodes(graph: onnx.GraphProto, prefix: str) -> None:
    """A name for every node that the parser left without: later steps make names of values from those of nodes."""
    for index, node in enumerate(graph.node):
        node.name = node.name or f"{prefix}/{node.op_type}_{index}"
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _name_nodes(attribute.g, node.name)
