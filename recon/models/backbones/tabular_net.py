"""Embeddings of categories and a multi-layer perceptron, for rows of a table.

The bottom that tasks share in Ma et al., "Modeling Task Relationships in Multi-task Learning with
Multi-gate Mixture-of-Experts", KDD 2018, with categories embedded as in Cheng et al., "Wide & Deep
Learning for Recommender Systems", DLRS 2016.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional


class ColumnEmbedding(nn.Module):
    """The columns of a table as one vector: an embedding of each category, then the numbers.

    All columns have one table of vectors, so that a batch is one lookup, and one layer. Places are
    floats, exact up to 256 in bfloat16 and 2048 in float16. They are not checked: one beyond its
    column's number takes a vector of the next column.

    >>> ColumnEmbedding(categories=[3, 5], numbers=1, size=4)(torch.zeros(2, 3)).shape
    torch.Size([2, 9])

    Args:
        categories: Number of places of each column of categories.
        numbers: Number of columns that are numbers.
        size: Length of the vector of a category.

    Raises:
        ValueError: A number that is too small.
    """

    first: Tensor
    weight: nn.Parameter | None

    def __init__(self, categories: Sequence[int], numbers: int, size: int) -> None:
        super().__init__()
        if numbers < 0 or size < 1 or any(places < 1 for places in categories) or not (numbers or categories):
            raise ValueError(
                f"categories={list(categories)}, numbers={numbers}, size={size}; give at least one column, one place "
                "in each column of categories, and one entry in the vector of a category"
            )
        self.categories = list(categories)
        self.num_columns = len(self.categories) + numbers
        self.num_features = len(self.categories) * size + numbers
        weight = nn.Parameter(torch.randn(sum(self.categories), size) * size**-0.5) if self.categories else None
        self.register_parameter("weight", weight)  # without categories it is no layer: it has no parameters
        first = torch.tensor([0, *accumulate(self.categories)][:-1], dtype=torch.int64)
        self.register_buffer("first", first, persistent=False)  # row of the weight with a column's place 0

    def forward(self, x: Tensor) -> Tensor:
        """Map rows ``(B, columns)``, places first and then numbers, to ``(B, num_features)``.

        Raises:
            ValueError: Another number of columns.
        """
        if x.dim() != 2 or x.shape[1] != self.num_columns:
            raise ValueError(
                f"rows of shape {tuple(x.shape)} do not fit {len(self.categories)} columns of categories and "
                f"{self.num_columns - len(self.categories)} of numbers; they should be (B, {self.num_columns})"
            )
        if self.weight is None:
            return x
        places, numbers = x.split([len(self.categories), self.num_columns - len(self.categories)], dim=1)
        vectors = functional.embedding(places.long() + self.first, self.weight)
        return torch.cat([vectors.flatten(1), numbers.to(vectors.dtype)], dim=1)


class TabularNet(nn.Module):
    """An embedding of the columns, then linear layers with ReLU; all are shared layers.

    >>> net = TabularNet(categories=[10, 53], numbers=7, widths=[32, 16])
    >>> net(torch.zeros(4, 9)).shape
    torch.Size([4, 16])

    Args:
        categories: Number of places of each column of categories, such as
            ``recon.data.tabular.census_income.CATEGORIES``. Places are 0, 1, ..., as floats; they
            come first in a row.
        numbers: Number of columns that are numbers; they come last.
        embedding: Length of the vector of a category.
        widths: Outputs of each linear layer.
        dropout: Part of the activations that is dropped behind each of them in training.

    Attributes:
        num_features: Number of features, the last width.

    Raises:
        ValueError: There is no column or no layer, or a number is too small.
    """

    def __init__(
        self,
        categories: Sequence[int] = (),
        numbers: int = 0,
        embedding: int = 8,
        widths: Sequence[int] = (128, 64),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not widths or any(width < 1 for width in widths):
            raise ValueError(f"widths is {list(widths)}; give the outputs of one layer or more, each at least 1")
        self.num_features = widths[-1]
        self.embedding = ColumnEmbedding(categories, numbers, embedding)
        inputs = [self.embedding.num_features, *widths]
        self.layers = nn.ModuleList(nn.Linear(*sizes) for sizes in zip(inputs, widths, strict=False))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map rows ``(B, columns)`` to features ``(B, num_features)``.

        Raises:
            ValueError: Another number of columns.
        """
        x = self.embedding(x)
        for layer in self.layers:
            x = self.dropout(torch.relu(layer(x)))
        return x
