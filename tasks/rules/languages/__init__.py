"""The languages in which partners are written to: one reviewed catalogue each. A new one is one file, and its line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from blocks.values import Language
from tasks.rules.languages import de, en
from tasks.rules.languages.base import Catalogue

CATALOGUES: Mapping[Language, Catalogue] = MappingProxyType({Language.EN: en.CATALOGUE, Language.DE: de.CATALOGUE})
