"""Pieces of an HTML page: the template environment, figures and pictures as inline content."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posegen.tracking.report.pictures import Pixels, encode
from posegen.tracking.report.style import data_uri, to_svg

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class PagePlot:
    """A figure of a page."""

    svg: str
    caption: str


@dataclass(frozen=True)
class PagePicture:
    """A picture of a page."""

    uri: str
    alt: str


def page_plot(figure: Figure, name: str, caption: str) -> PagePlot:
    return PagePlot(to_svg(figure, name, caption), caption)


def page_picture(image: Pixels, alt: str) -> PagePicture:
    return PagePicture(data_uri(encode(image, "jpeg"), "image/jpeg"), alt)


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Templates beside this module; everything is escaped unless a template says that it is markup."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent / "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def render(template: str, path: Path, **values: Any) -> Path:
    """Writes a page; a reader never meets half of one."""
    text = environment().get_template(template).render(**values)
    part = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    part.write_text(text, encoding="utf-8")
    part.replace(path)
    return path
