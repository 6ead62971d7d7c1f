"""What identifies a prompt: form, turns and tools, and nothing that a file says beside them."""

from plaudit.records.text import Form, Message, Prompt


def test_the_id_of_a_plain_prompt_is_what_it_always_was():
    assert Prompt.of_text("hi").id == "320762ac5550d1dc"


def test_what_a_turn_says_beside_its_content_counts():
    def prompt(extra: dict, tools: tuple = ()) -> Prompt:
        return Prompt(form=Form.CHAT, turns=(Message(role="user", content="hi", extra=extra),), tools=tools)

    different = [prompt({}), prompt({"name": "ann"}), prompt({"name": "bob"}), prompt({}, ({"name": "look"},))]
    assert len({one.id for one in different}) == len(set(different)) == 4
    assert prompt({"reasoning": "hm"}, ({"name": "look"},)).text == 'tools: [{"name": "look"}]\nreasoning: hm\nuser: hi'
    assert prompt({"name": "ann"}) == prompt({"name": "ann"})
    assert Message(role="user", content="hi", extra={"name": "ann"}).to_plain() == {
        "role": "user", "content": "hi", "name": "ann",
    }  # fmt: skip
