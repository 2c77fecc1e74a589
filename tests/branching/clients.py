"""Small networks of the shapes that people branch: how they take inputs, route features and return
outputs.

Each has a ``trunk``: the module, of class :class:`Counted`, that stands before all branches and
should run once a step.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree


class Counted(nn.Linear):
    """A linear layer that counts how often any copy of it has run."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        type(self).calls += 1
        return super().forward(x)


class HardSharing(nn.Module):
    """LibMTL's HPS: an encoder, and what follows of the tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(Counted(6, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Dropout(0.0))
        self.late = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.late(self.encoder(x))


class Experts(nn.Module):
    """LibMTL's MMoE: experts that all gates mix; the gates' selections are stacked and summed with
    einsum.
    """

    def __init__(self) -> None:
        super().__init__()
        self.input_size = int(np.array([2, 3], dtype=int).prod())
        self.encoder = Counted(6, 8)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(3))
        self.gates = nn.ModuleDict({name: nn.Sequential(nn.Linear(6, 3), nn.Softmax(dim=-1)) for name in ("a", "b")})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        shared = self.encoder(x).relu()
        experts = torch.stack([expert(shared) for expert in self.experts])
        mixed = {}
        for name, gate in self.gates.items():
            selector = gate(torch.flatten(x, start_dim=1).view(-1, self.input_size))
            mixed[name] = torch.einsum("ij..., ji -> j...", experts, selector)
        return mixed


class Gating(nn.Module):
    """LibMTL's CGC, and the levels of PLE: experts of the tasks beside shared ones, chosen by
    name.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.stem = Counted(6, 8)
        self.levels = nn.ModuleList(
            nn.ModuleDict(
                {
                    "shared": nn.ModuleList(nn.Linear(8, 8) for _ in range(2)),
                    "a": nn.ModuleList([nn.Linear(8, 8)]),
                    "gate_a": nn.Linear(8, 3),
                }
            )
            for _ in range(levels)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.stem(x))
        state = {"shared": x, "a": x}
        for level in self.levels:
            outputs = {name: [expert(state[name]) for expert in level[name]] for name in state}
            together = torch.stack([*outputs["shared"], *outputs["a"]], dim=1)
            weights = F.softmax(level["gate_a"](state["a"]) / np.sqrt(8.0), dim=1)
            state["a"] = (weights.unsqueeze(-1) * together).sum(1)
            state["shared"] = torch.stack(outputs["shared"]).mean(0)
        return state["a"]


class CrossStitch(nn.Module):
    """LibMTL's Cross-stitch: two columns whose features are mixed by a matrix that is read
    directly.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = Counted(6, 8)
        self.columns = nn.ModuleList(nn.ModuleList(nn.Linear(8, 8) for _ in range(2)) for _ in range(2))
        self.units = nn.Parameter(torch.tensor([[0.9, 0.1], [0.2, 0.8]]))

    def forward(self, x: Tensor) -> list[Tensor]:
        features = [self.stem(x)] * 2
        for layer in range(2):
            own = [self.columns[task][layer](features[task]).relu() for task in range(2)]
            stacked = torch.stack(own)
            features = [torch.einsum("i,i...->...", self.units[task], stacked) for task in range(2)]
        return features


class Convolution(nn.Module):
    """Counts as :class:`Counted` does, by a layer of one channel pair."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.mix = Counted(inputs, outputs)
        self.conv = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.mix(x.movedim(1, -1)).movedim(-1, 1))


class Attention(nn.Module):
    """MTAN on SegNet: pooling with indices, unpooling by them, and attention that multiplies
    features.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleList([Convolution(3, 4), nn.Conv2d(4, 4, 3, padding=1)])
        self.decoder = nn.ModuleList([nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)])
        self.attention = nn.ModuleList(nn.Conv2d(8 if i else 4, 4, 1) for i in range(2))
        self.down_sampling = nn.MaxPool2d(2, stride=2, return_indices=True)
        self.up_sampling = nn.MaxUnpool2d(2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        features, indices = ([0] * 2 for _ in range(2))
        for i, block in enumerate(self.encoder):
            x, indices[i] = self.down_sampling(F.relu(block(x), inplace=True))  # type: ignore[call-overload]
            features[i] = x  # type: ignore[call-overload]
        mask: Any = None
        for i, layer in enumerate(self.attention):
            seen = features[i] if mask is None else torch.cat((features[i], F.max_pool2d(mask, 2)), dim=1)  # type: ignore[list-item]
            mask = torch.sigmoid(layer(seen))
            mask = mask * features[i]
        for i, block in enumerate(self.decoder):
            x = block(self.up_sampling(x + mask if i == 0 else x, indices[-i - 1]))
        return x


class Distilling(nn.Module):
    """PAD-Net: predictions on the way, whose features the tasks then exchange; a dictionary of all
    of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Convolution(3, 4)
        self.first = nn.ModuleDict({name: nn.Conv2d(4, 4, 1) for name in ("seg", "depth")})
        self.heads = nn.ModuleDict({name: nn.Conv2d(4, 2, 1) for name in ("seg", "depth")})
        self.exchange = nn.ModuleDict({"seg": nn.Conv2d(4, 4, 1), "depth": nn.Conv2d(4, 4, 1)})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        size = x.size()[-2:]
        x = self.backbone(x)
        output: dict[str, Tensor] = {}
        features: dict[str, Tensor] = {}
        for name in self.first:
            features[f"features_{name}"] = self.first[name](x).relu_()
            output[f"initial_{name}"] = self.heads[name](features[f"features_{name}"])
        for name in self.heads:
            others = [self.exchange[other](features[f"features_{other}"]) for other in self.first if other != name]
            mixed = features[f"features_{name}"] + torch.sum(torch.stack(others), dim=0)
            output[name] = F.interpolate(self.heads[name](mixed), size, mode="bilinear")
        return output


class Unet(nn.Module):
    """Of segmentation_models_pytorch: a check of the input's size, a list of features, skips that
    may be missing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleList([Convolution(3, 4), nn.Conv2d(4, 6, 3, 2, 1), nn.Conv2d(6, 8, 3, 2, 1)])
        self.decoder = nn.ModuleList([nn.Conv2d(14, 6, 3, padding=1), nn.Conv2d(10, 4, 3, padding=1)])
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if height % 4 != 0 or width % 4 != 0:
            raise ValueError(f"{height} x {width} is not divisible by 4")
        features = [x]
        for block in self.encoder:
            features.append(block(features[-1]).relu())
        features = features[1:][::-1]
        x = features[0]
        for i, block in enumerate(self.decoder):
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            skip = features[i + 1] if i + 1 < len(features) else None
            x = block(x if skip is None else torch.cat([x, skip], dim=1)).relu()
        return self.head(x)


@dataclass
class ModelOutput(OrderedDict[str, Any]):
    """As that of transformers: an ordered dictionary with attributes, in which what is None is left
    out.
    """

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None

    def __post_init__(self) -> None:
        self.update({name: value for name, value in vars(self).items() if value is not None})


_pytree.register_pytree_node(
    ModelOutput,
    lambda output: (list(output.values()), list(output)),
    lambda values, keys: ModelOutput(**dict(zip(keys, values, strict=True))),
)


class TransformerLayer(nn.Module):
    """Self-attention whose implementation a configuration names, and a feed-forward part."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Tensor, mask: Tensor | None = None, **kwargs: Any) -> tuple[Tensor]:
        shape = (*x.shape[:-1], -1, self.config.head_size)
        q, k, v = (part.view(shape).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        if self.config.implementation == "fused":
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.config.head_size**-0.5)
        else:
            scores = q @ k.transpose(-1, -2) * self.config.head_size**-0.5
            y = (scores if mask is None else scores + mask).softmax(-1) @ v
        x = self.norm(x + self.out(y.transpose(1, 2).reshape(*x.shape)))
        return (x + self.down(F.gelu(self.up(x))),)


class Config:
    def __init__(self, implementation: str) -> None:
        self.implementation, self.head_size, self.return_dict = implementation, 4, True


class Embeddings(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.positions, self.project = nn.Embedding(20, 8), nn.Embedding(10, 8), Counted(8, 8)
        self.register_buffer("position_ids", torch.arange(10).expand((1, -1)), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        positions = self.positions(self.position_ids[:, : ids.size(1)])
        return self.project(self.words(ids) + positions)


class Encoder(nn.Module):
    """BERT and DistilBERT: ids or embeddings, a mask that may be missing or full, all hidden states
    when asked for.
    """

    def __init__(self, decides: bool, implementation: str = "fused") -> None:
        super().__init__()
        self.config = Config(implementation)
        self.decides = decides
        self.embeddings = Embeddings()
        self.layers = nn.ModuleList(TransformerLayer(self.config) for _ in range(3))
        self.pooler = nn.Linear(8, 8)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        return_dict = self.config.return_dict if return_dict is None else return_dict
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give ids or embeddings")
        x = self.embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        mask = None
        if attention_mask is not None and not (self.decides and attention_mask.all()):
            mask = (1.0 - attention_mask[:, None, None, :].to(x.dtype)) * torch.finfo(torch.float32).min
        states: tuple[Tensor, ...] = ()
        for layer in self.layers:
            states = (*states, x) if output_hidden_states else states
            x = layer(x, mask)[0]
        states = (*states, x) if output_hidden_states else states
        pooled = torch.tanh(self.pooler(x[:, 0]))
        if not return_dict:
            return x, pooled, *([states] if states else [])
        return ModelOutput(last_hidden_state=x, pooler_output=pooled, hidden_states=states or None)


class Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.projection, self.project = nn.Conv2d(3, 8, 4, 4), Counted(8, 8)

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.project(self.projection(pixel_values).flatten(2).transpose(1, 2))


class VisionTransformer(nn.Module):
    """ViT of transformers: a check of the image's size, and a class token that is read directly."""

    def __init__(self, checks: bool) -> None:
        super().__init__()
        self.config = Config("eager")
        self.checks = checks
        self.image_size = 8
        self.patches = Patches()
        self.cls_token = nn.Parameter(torch.randn(1, 1, 8))
        self.layers = nn.ModuleList(TransformerLayer(self.config) for _ in range(3))
        self.pooler = nn.Linear(8, 8)

    def forward(self, pixel_values: Tensor) -> ModelOutput:
        batch, _, height, width = pixel_values.shape
        if self.checks and (height != self.image_size or width != self.image_size):
            raise ValueError(f"{height} x {width} is not {self.image_size} x {self.image_size}")
        x = torch.cat((self.cls_token.expand(batch, -1, -1), self.patches(pixel_values)), dim=1)
        for layer in self.layers:
            x = layer(x)[0]
        return ModelOutput(last_hidden_state=x, pooler_output=torch.tanh(self.pooler(x[:, 0])))


class Capturing(VisionTransformer):
    """Takes hidden states by hooks that are bound to itself, as DPT does, and transformers for
    ``hidden_states``.
    """

    def __init__(self) -> None:
        super().__init__(False)
        self.captured: list[Tensor] = []
        for layer in self.layers:
            layer.register_forward_hook(self.capture)

    def capture(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.captured.append(output[0])

    def forward(self, pixel_values: Tensor) -> ModelOutput:
        self.captured.clear()
        last = super().forward(pixel_values).last_hidden_state
        return ModelOutput(last_hidden_state=last, hidden_states=tuple(self.captured))


class GraphConvolution(nn.Module):
    """Message passing of PyG: types asked for, self-loops by a number of nodes that may be read
    from the edges.
    """

    def __init__(self, inputs: int, outputs: int, kind: str, counts: bool = False) -> None:
        super().__init__()
        self.kind, self.counts = kind, counts
        self.lin = nn.Linear(inputs, outputs, bias=False)
        self.att = nn.Parameter(torch.randn(outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor | tuple[Tensor, Tensor], edge_index: Tensor) -> Tensor:
        x = self.lin(x if isinstance(x, Tensor) else x[0])
        nodes = int(edge_index.max()) + 1 if self.counts else x.size(0)
        source, target = edge_index[0], edge_index[1]
        loops = torch.arange(nodes, device=x.device)
        source, target = torch.cat([source, loops]), torch.cat([target, loops])
        weight = torch.ones(source.size(0), dtype=x.dtype)
        degree = torch.zeros(x.size(0), dtype=x.dtype).scatter_add_(0, target, weight)
        if self.kind == "gcn":
            weight = degree.pow(-0.5)[source] * degree.pow(-0.5)[target]
        elif self.kind == "gat":
            score = F.leaky_relu((x * self.att).sum(-1)[source]).exp()
            weight = score / torch.zeros(x.size(0), dtype=x.dtype).scatter_add_(0, target, score)[target]
        else:
            weight = 1 / degree[target]
        out = torch.zeros(x.size(0), x.size(1), dtype=x.dtype).index_add_(0, target, x[source] * weight[:, None])
        return out + self.bias


class GraphNetwork(nn.Module):
    def __init__(self, kind: str, counts: bool = False) -> None:
        super().__init__()
        self.project = Counted(5, 8)
        self.convs = nn.ModuleList([GraphConvolution(8, 8, kind, counts), GraphConvolution(8, 8, kind)])
        self.out = nn.Linear(8, 4)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        x = self.project(x)
        for conv in self.convs:
            x = F.dropout(conv(x, edge_index).relu(), 0.0, self.training)
        return self.out(x)


class Recommender(nn.Module):
    """Of recommenders: a dictionary of sparse, sequence and dense features, and experts behind
    it.
    """

    def __init__(self, experts: nn.Module) -> None:
        super().__init__()
        self.tables = nn.ModuleDict({"user": nn.Embedding(10, 2), "clicks": nn.Embedding(10, 2)})
        self.dense_scale = np.float64(0.5)
        self.experts = experts

    def forward(self, batch: dict[str, Tensor]) -> Any:
        columns = []
        for name, value in batch.items():
            if name in self.tables:
                embedded = self.tables[name](value.long())
                columns.append(embedded.mean(1) if name == "clicks" else embedded)
            else:
                columns.append(self.dense_scale * value)
        return self.experts(torch.cat(columns, dim=1))


class ActorCritic(nn.Module):
    """An observation in NumPy's scaling, a memory of one step that is handed in and out, logits and
    a value.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Counted(6, 8)
        self.mean, self.deviation = np.full(6, 0.1, dtype=np.float32), np.float32(2.0)
        self.core = nn.GRUCell(8, 8)
        self.actor, self.critic = nn.Linear(8, 3), nn.Linear(8, 1)
        for layer, gain in ((self.actor, 0.01), (self.critic, np.sqrt(2))):
            nn.init.orthogonal_(layer.weight, gain)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        x = (x - torch.as_tensor(self.mean, dtype=x.dtype)) / self.deviation
        x = torch.tanh(self.encoder(x))
        state = self.core(x, x.new_zeros(x.size(0), 8) if state is None else state)
        return self.actor(state).log_softmax(-1), self.critic(state).squeeze(-1), state
