"""What a text says about itself, without a language model: keyphrases, facts, tables, dates; each with its span."""
