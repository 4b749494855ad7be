"""The pages made from the code say what the code does now."""

from __future__ import annotations

import docs_build
import pytest

from pullthrough.cli.exit_codes import ExitCode
from pullthrough.settings.fields import settings_of
from pullthrough.settings.tables import (
    AccessSettings,
    RuleSettings,
    ScanningSettings,
    ServeSettings,
    TemplateSettings,
    TopSettings,
    UpstreamSettings,
)


@pytest.mark.parametrize("name", ["configuration.md", "cli.md", "errors.md"])
def test_a_generated_page_is_not_stale(name: str) -> None:
    text = dict(docs_build.pages())[docs_build.DOCS / name]
    assert docs_build.stale_by(docs_build.DOCS / name, text) == ""


def test_the_configuration_page_has_every_setting_and_a_good_example() -> None:
    page = docs_build.configuration_page()
    for model in (
        TopSettings,
        ServeSettings,
        RuleSettings,
        UpstreamSettings,
        TemplateSettings,
        AccessSettings,
        ScanningSettings,
    ):
        for key in settings_of(model):
            assert f"### `{key}`\n" in page


def test_the_command_line_page_has_every_exit_code() -> None:
    page = docs_build.cli_page()
    assert all(f"| {code.value} | " in page for code in ExitCode)


def test_a_stale_page_is_shown_by_its_first_differences() -> None:
    page = docs_build.ROOT / "docs" / "cli.md"
    difference = docs_build.stale_by(page, page.read_text().replace("# Command line\n", "# Other\n", 1))
    assert "docs/cli.md from the code" in difference
    assert "+# Other" in difference


def test_the_table_of_contents_has_the_pages_that_are_there_in_order() -> None:
    nav = docs_build.navigation({"errors.md", "cli.md", "configuration.md"})
    assert nav == '  - "Configuration": configuration.md\n  - "Command line": cli.md\n  - "Errors": errors.md\n'


def test_another_word_than_write_or_check_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert docs_build.main(["publish"]) == 2
    assert "usage" in capsys.readouterr().err
