"""Readers of the field's dataset formats, a module a family; `data.pages` and `data.lines` choose among them."""
