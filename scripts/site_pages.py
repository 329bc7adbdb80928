"""Write docs/llms.txt, the list of the pages: `python scripts/site_pages.py`.

The form of llms.txt: https://llmstxt.org
"""  # noqa: INP001  (a script)

import re
from pathlib import Path
from typing import Final

DOCS = Path(__file__).parent.parent / "docs"
LIST = DOCS / "llms.txt"

_SITE: Final = "https://github.com/voicery-dispatcher/voicery-dispatcher/blob/main/docs"


def toctrees() -> dict[str, list[str]]:
    """The pages of each part of the site, in its order."""
    trees = re.findall(
        r"```{toctree}\n:caption: (.+)\n:hidden:\n\n((?:[\w/-]+\n)+)```", (DOCS / "index.md").read_text("utf-8")
    )
    return {caption: names.split() for caption, names in trees}


def llms() -> str:
    """The list for language models as it should be: each page with its first sentence."""
    _, title, about = first_lines(DOCS / "index.md")
    parts = [f"# {title}\n\n> {about}\n"]
    for caption, names in toctrees().items():
        parts.append(f"\n## {caption}\n\n")
        for name in names:
            link, title, told = first_lines(DOCS / f"{name}.md")
            parts.append(f"- [{title}]({_SITE}/{link}): {told}\n")
    return "".join(parts)


def first_lines(page: Path) -> tuple[str, str, str]:
    """Return the page's path, its title and the first sentence of its text."""
    text = re.sub(r"<!--.*?-->", "", page.read_text("utf-8"), flags=re.DOTALL)
    title, _, rest = text.removeprefix("# ").partition("\n")
    blocks = (re.sub(r"(?m)^> ?", "", block) for block in re.sub(r"```.*?```", "", rest, flags=re.DOTALL).split("\n\n"))
    paragraph = " ".join(next(block for block in blocks if block.strip()).replace("*", "").split())
    sentence = re.match(r".*?[.:](?= |$)", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", paragraph))
    return page.relative_to(DOCS).as_posix(), title, sentence[0].rstrip(":") if sentence else paragraph


if __name__ == "__main__":
    LIST.write_text(llms(), encoding="utf-8")
