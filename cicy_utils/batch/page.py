"""An executed notebook as one HTML file that opens anywhere: nothing is fetched from elsewhere.

Formulas become MathML, which browsers show by themselves, instead of waiting for a script from
the network.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from jinja2 import pass_context
from jinja2.runtime import Context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbformat import NotebookNode

FORMULA = re.compile(r"\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$]+?)\$", re.DOTALL)

TEMPLATE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block html_head_css -%}
<style>
body.jp-Notebook { max-width: 68rem; margin: 0 auto; }
math[display="block"] { margin: 0.6em 0; }
.failure { border: 2px solid #b00020; padding: 1em; white-space: pre-wrap; }
/* the bar after the dimensions of a configuration matrix */
mtable[columnlines^="solid"] > mtr > mtd:first-child { border-right: 1px solid; }
</style>
{%- endblock -%}
{%- block body_header -%}
{{ super() }}
{% if resources.failure %}<pre class="failure">{{ resources.failure | escape }}</pre>{% endif %}
{%- endblock -%}
"""


class PageExporter(HTMLExporter):
    """nbconvert's page without scripts from the network, and with MathML."""

    @pass_context
    def markdown2html(self, context: Context, source: str) -> str:
        return FORMULA.sub(_mathml, super().markdown2html(context, source))


def render(notebook: NotebookNode, title: str, error: Sequence[str] = ()) -> str:
    """The page of an executed notebook, with the error at its head if there is one."""
    exporter = PageExporter(
        raw_template=TEMPLATE,
        embed_images=True,
        exclude_input_prompt=True,
        exclude_output_prompt=True,
    )
    exporter.log.setLevel("ERROR")  # figures without an alternative text are no news here
    resources: dict = {"metadata": {"name": title}}
    if error:
        resources["failure"] = "\n".join(["This notebook failed.", *error])
    page, _ = exporter.from_notebook_node(notebook, resources=resources)
    return page


def _mathml(match: re.Match[str]) -> str:
    block = match["block"] is not None
    formula = html.unescape(match["block"] if block else match["inline"])
    return convert(formula, display="block" if block else "inline")
