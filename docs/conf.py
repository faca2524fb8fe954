"""How Sphinx builds the documentation: `make docs` writes it to site/, which needs no network to be read."""

import dataclasses
import inspect
import re
import sys
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.domains.python import PyXRefRole

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "examples")]

from modeling_i2srm import __version__  # noqa: E402

project, author, release = "modeling_i2srm", "the authors of modeling_i2srm", __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
default_role = "name"
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
autodoc_typehints_format = "fully-qualified"
add_module_names = False
napoleon_use_rtype = False
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
smartquotes = False  # they turn --name into another sign
html_theme = "furo"
html_title = f"modeling_i2srm {release}"
html_copy_source = False
html_static_path = ["site.css"]
html_show_copyright = False
html_css_files = ["site.css"]
html_math_renderer = "mathml"
linkcheck_anchors = False  # many sites make them by script
linkcheck_ignore = [r"https?://(127\.0\.0\.1|localhost|example\.(org|com))"]


def name_role(role, rawtext, text, lineno, inliner, options=None, content=()):
    """What stands between single backticks in a docstring: code, and a link if it names something here."""
    if re.fullmatch(r"[A-Za-z_][\w.]*", text):
        return PyXRefRole()("py:obj", rawtext, text, lineno, inliner, options or {}, content)
    return [nodes.literal(rawtext, text)], []


def indented_lines_are_code(app, what, name, obj, options, lines: list[str]):
    """Lines after an empty one that are indented are code, as in Markdown; in what a script says by two spaces."""
    script = what == "module" and (hasattr(obj, "main") or not name.startswith("modeling_i2srm"))
    indent = "  " if script else "    "
    if script:
        lines[:] = [line if line.startswith(indent) else line.replace("*", "\\*") for line in lines]
    for i in range(len(lines) - 1, 0, -1):
        if lines[i].startswith(indent) and not lines[i - 1]:
            before = next((line for line in reversed(lines[:i]) if line), "")
            if not before.startswith(indent):
                lines[i:i] = [".. code-block:: text" if script else "::", ""]


def settings(obj) -> list[dataclasses.Field]:
    """The fields that a class of command line arguments adds to those it inherits."""
    if not inspect.isclass(obj) or not dataclasses.is_dataclass(obj):
        return []
    own = inspect.get_annotations(obj)
    return [field for field in dataclasses.fields(obj) if field.name in own and "help" in field.metadata]


def settings_have_help(app, what, name, obj, options, lines: list[str]):
    """The help of each setting stands where other classes have their arguments."""
    if fields := settings(obj):
        texts = (f"    {f.name}: {f.metadata['help'].replace('*', chr(92) + '*')} [{f.default!r}]" for f in fields)
        lines += ["", "Args:", *texts, ""]


def settings_have_no_signature(app, what, name, obj, options, signature, return_annotation):
    """All that transformers' TrainingArguments has would fill a page."""
    return ("(...)", None) if settings(obj) else None


def visit_math(translator, node):
    """Formulas become MathML, which browsers show without a script."""
    display = "block" if isinstance(node, nodes.math_block) else "inline"
    translator.body.append(convert(node.astext(), display=display))
    raise nodes.SkipNode


def setup(app):
    app.add_role("name", name_role)
    app.connect("autodoc-process-docstring", indented_lines_are_code, priority=1)
    app.connect("autodoc-process-docstring", settings_have_help, priority=2)
    app.connect("autodoc-process-signature", settings_have_no_signature)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math, None))
