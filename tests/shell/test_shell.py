"""The interactive shell in a terminal: what a person types, and what the screen then shows."""

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import command
import pytest
from terminal import CTRL_C, CTRL_D, CTRL_R, ENTER, RIGHT, TAB, Terminal

Open = Callable[..., Terminal]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens shells on one store; closes them."""
    terminals: list[Terminal] = []

    def open_shell(**environment: Any) -> Terminal:
        terminal = Terminal(command.GEODE, ["-t", str(tmp_path / "store")], home=tmp_path, **environment)
        terminals.append(terminal)
        terminal.sees("geode>")
        return terminal

    yield open_shell
    for terminal in terminals:
        terminal.close()


@pytest.fixture
def shell(opened: Open, tmp_path: Path) -> Terminal:
    """A shell on a store with a topic of some orders."""
    geode(
        tmp_path,
        *[f'PUBLISH TO orders {{"status": "paid", "total": {n}, "ship_to": {{"city": "Ulm"}}}};' for n in (1, 2, 3)],
    )
    return opened()


def geode(tmp_path: Path, *statements: str) -> str:
    """Run statements beside the shell; what they give as JSON lines."""
    code, out, err = command.geode("-t", str(tmp_path / "store"), "-c", " ".join(statements))
    assert code == 0, err
    return out


def test_a_statement_is_completed_from_two_letters_to_a_field(shell: Terminal) -> None:
    shell.type("SU")
    shell.sees("SUBSCRIBE TO")
    shell.type(TAB)
    shell.type(" or")
    shell.sees("topic")
    shell.type(TAB)
    shell.sees("geode> SUBSCRIBE TO orders")
    shell.type(" WHE")
    shell.sees("WHERE")
    shell.type(TAB)
    shell.type(" ship")
    shell.sees("object")
    shell.type(TAB)
    shell.type(".")
    shell.sees("city")
    shell.type("ci" + TAB)  # at once: a Tab that comes before the menu is not lost
    shell.sees("geode> SUBSCRIBE TO orders WHERE ship_to.city")


def test_enter_takes_what_is_chosen_in_the_menu_and_stays_in_the_line(shell: Terminal) -> None:
    shell.type("SELECT * FROM SYSTEM.top")
    shell.sees("table")
    shell.type("\x1b[B")
    shell.sees("SELECT * FROM SYSTEM.topics")
    shell.type(ENTER)
    shell.sees_not("table")
    shell.run(" LIMIT 1;", "orders")


def test_statements_may_have_several_lines_and_the_right_side_says_what_is_open(shell: Terminal) -> None:
    shell.type("SELECT (total")
    shell.sees("( is open")
    shell.type(")" + ENTER)
    shell.sees("; runs it")
    shell.run("+ 40 AS answer FROM orders WHERE total = 2;", "answer", "42", "1 row")


def test_an_error_shows_caret_and_hint_in_colours_and_ends_nothing(shell: Terminal) -> None:
    shell.run("SELCT 1;", "error: 'SELCT' cannot stand here", "^^^^^", "hint: did you mean SELECT?")
    row = shell.text.split("\n").index("^^^^^")
    assert shell.cells[row][0].fg == "red"
    shell.run("SELECT 6 * 7 AS answer;", "42")


def test_ctrl_c_gives_up_the_line_and_ctrl_d_leaves(shell: Terminal, tmp_path: Path) -> None:
    shell.type("SELECT 1")
    shell.sees("SELECT 1")
    shell.type(CTRL_C)
    shell.until(lambda: shell.text.count("geode>") == 2, "no second prompt")
    shell.run("SELECT 5 * 5;", "25")
    shell.is_reading()
    shell.type(CTRL_D)
    assert shell.ends() == 0
    history = tmp_path / ".local" / "state" / "geode" / "history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert "SELECT 5 * 5;" in history.read_text(encoding="utf-8")


def test_history_is_searched_and_suggested_in_the_next_shell(opened: Open) -> None:
    first = opened()
    first.run("SELECT 11 * 11;", "121")
    first.is_reading()
    first.type(CTRL_D)
    assert first.ends() == 0
    second = opened()
    second.type("SELECT 11")
    second.sees("SELECT 11 * 11;")
    second.type(RIGHT)
    second.run("", "121")
    second.is_reading()
    second.type(CTRL_R + "11")
    second.sees("(reverse-i-search)`11': SELECT 11 * 11;")


def test_a_live_subscription_has_a_status_line_and_ends_with_a_summary(shell: Terminal, tmp_path: Path) -> None:
    shell.run("SUBSCRIBE TO users/*;", "● users/* · 0 received", "Ctrl-C ends it")
    geode(tmp_path, "INSERT INTO users/new (name) VALUES ('Ada')")
    shell.sees('→ users/new 0/0 {"name":"Ada"}')
    shell.sees("· 1 received")
    shell.sees("lag 0")
    shell.type(CTRL_C)
    shell.sees("users/*: 1 message received (in ")
    assert "● users" not in shell.text
    shell.run("SELECT 6 * 7 AS answer;", "42")


def test_ctrl_c_cancels_a_statement_and_those_behind_it(shell: Terminal) -> None:
    shell.run("ASSERT (SELECT 1) = 2 WITHIN '1 hour'; SELECT 'late' AS word;")
    shell.is_running()
    shell.type(CTRL_C)
    shell.sees("interrupted")
    shell.run("SELECT 6 * 7 AS answer;", "42")
    assert "│ late │" not in shell.text


def test_watch_runs_a_statement_again_until_ctrl_c(shell: Terminal, tmp_path: Path) -> None:
    shell.run("SELECT count(*) AS n FROM orders; \\watch 0.2", "│ 3 │", "every 0.2 s")
    geode(tmp_path, 'PUBLISH TO orders {"n": 4}')
    shell.sees("│ 4 │")
    shell.type(CTRL_C)
    shell.sees("interrupted")
    shell.run("SELECT 6 * 7 AS answer;", "42")


def test_statements_that_destroy_ask_first(shell: Terminal, tmp_path: Path) -> None:
    shell.run("DROP TOPIC orders;", "drop topic orders with 3 messages? [y/N]")
    shell.run("n", "not done")
    shell.run("PURGE TOPIC orders;", "purge topic orders with 3 messages? [y/N]")
    shell.run("y", "topic orders purged: 3 messages removed")
    shell.run("DROP TOPIC missing;", "there is no topic missing")
    assert "orders" in geode(tmp_path, "SELECT topic_name FROM SYSTEM.topics")


def test_what_passes_the_screen_goes_to_the_pager_and_what_fits_does_not(opened: Open, tmp_path: Path) -> None:
    geode(tmp_path, "INSERT INTO t (n, s) VALUES", ", ".join(f"({n}, '{'x' * 130}')" for n in range(60)))
    shell = opened()
    shell.run("SELECT n FROM t ORDER BY n LIMIT 3;", "3 rows")
    shell.run("SELECT n, s FROM t ORDER BY n LIMIT 2;", "2 rows")
    assert "╰" in shell.text
    shell.run("SELECT n, s, n AS last FROM t ORDER BY n;", ":")
    shell.until(lambda: shell.text.endswith(":"), "no pager")
    # The pager cuts long lines instead of folding them; its arrow keys move.
    assert "│  0 │ xxx" in shell.text
    assert "last" not in shell.text
    shell.type("\x1bOC\x1bOC")  # the arrow key, as the pager has asked the terminal to send it
    shell.sees("last")
    shell.type("q")
    shell.run("SELECT 6 * 7 AS answer;", "42")


def test_a_table_too_wide_even_for_its_headings_is_shown_one_field_a_line(shell: Terminal) -> None:
    shell.run("SELECT * FROM SYSTEM.topics;", "topic_name │ orders", "1 row")
    shell.run("\\x off", "expanded display is off")
    shell.run("\\x on", "expanded display is on")
    shell.run("SELECT 1 AS one;", "one │ 1")


def test_commands(shell: Terminal, tmp_path: Path) -> None:
    shell.run("\\dt ord%", "topic_name", "orders")
    shell.run(".tables", "orders")
    shell.run("\\d orders", "at_least_once")
    shell.run(".schema orders", "CREATE TOPIC orders")
    shell.run("\\set least 2")
    shell.run("SELECT sum(total) AS total FROM orders WHERE total >= $least;", "│     5 │")
    shell.run("\\format csv", "format is csv")
    shell.run("SELECT 1 AS a, 'x,y' AS b;", '1,"x,y"')
    shell.run(f"\\o {tmp_path / 'out.csv'}", "results go to")
    shell.run("SELECT 7 AS seven;")
    shell.run("\\o", "to the screen")
    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == "seven\n7\n"
    (tmp_path / "script.gql").write_text(
        'PUBLISH TO orders {"total": 10}; SELECT count(*) AS messages FROM orders;', encoding="utf-8"
    )
    shell.run(f"\\i {tmp_path / 'script.gql'}", "messages\n4")
    shell.run("\\fromat", "did you mean \\format?")
    shell.run("\\timing off", "timing is off")
    shell.run("\\q")
    assert shell.ends() == 0


def test_the_editor_gives_the_statement(opened: Open, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\necho \"SELECT 'edited' AS how;\" > $1\n", encoding="utf-8")
    editor.chmod(0o700)
    opened(EDITOR=str(editor)).run("\\e", "│ edited │")


def test_help_is_there(shell: Terminal) -> None:
    shell.run("help", "Ctrl-D leaves")
    shell.run("\\h PURGE", "PURGE TOPIC orders")


def test_the_settings_come_from_a_file_and_variables_go_before_it(opened: Open, tmp_path: Path) -> None:
    folder = tmp_path / ".config" / "geode"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text('format = "csv"\nprompt = "mine geode> "\nconfirm = false\n', encoding="utf-8")
    shell = opened()
    shell.sees("mine geode>")
    shell.run("SELECT 1 AS a, 2 AS b;", "a,b\n1,2")
    shell.run("CREATE TOPIC t; DROP TOPIC t;", "topic t dropped")
    opened(GEODE_FORMAT="jsonl").run("SELECT 1 AS a;", '{"a":1}')


def test_a_home_that_is_no_directory_has_no_settings(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("", encoding="utf-8")
    code, out, err = command.geode_process(
        "-t", ":memory:", "-c", "SELECT 1 AS n", environment={"HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": ""}
    )
    assert (code, out, err) == (0, '{"n":1}\n', "")


def test_a_setting_that_is_wrong_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("formt = 1", encoding="utf-8")
    terminal = Terminal(command.GEODE, ["-t", ":memory:"], home=tmp_path, GEODE_CONFIG=str(tmp_path / "config.toml"))
    assert terminal.ends() == 1
    assert "unknown key formt: did you mean format?" in terminal.unwrapped


def test_a_store_that_cannot_be_opened_ends_the_shell_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("no directory", encoding="utf-8")
    terminal = Terminal(command.GEODE, ["-t", str(tmp_path / "store")], home=tmp_path)
    assert terminal.ends() == 1
    assert "is a file" in terminal.unwrapped
    assert "Traceback" not in terminal.unwrapped


def test_a_transaction_is_seen_at_the_prompt_and_rolled_back_at_the_end(opened: Open, tmp_path: Path) -> None:
    shell = opened()
    shell.run("BEGIN;", "geode*>")
    shell.run('PUBLISH TO t {"a": 1};')
    shell.run("SELCT 1;", "did you mean SELECT")
    shell.run("COMMIT;", "committed: 1 message published")
    shell.run("BEGIN;", "transaction begun")
    shell.run('PUBLISH TO t {"a": 2};')
    shell.is_reading()
    shell.type(CTRL_D)
    assert shell.ends() == 0
    assert "the open transaction was rolled back" in shell.text
    assert geode(tmp_path, "SELECT count(*) AS n FROM t") == '{"n":1}\n'
