# The recipes are plain commands; .ci/run runs the same ones, in this order.

# Lists the recipes.
default:
    @just --list

# Formatting, lints, documentation: no warnings.
check:
    cargo fmt --check
    cargo clippy --all-targets --all-features -- -D warnings
    RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --all-features

# The whole suite. What this host lacks is ignored, with the reason.
test *args:
    cargo test {{ args }}

# The same, and what the host lacks of this list fails.
test-require features="userns,sh,cc,python3":
    BELLJAR_TEST_REQUIRE={{ features }} cargo test

# The same in guests with other kernels and cgroups, see docs/testing.md; what is missing for that is named.
test-vm *args:
    tests/vm/matrix {{ args }}

# The long versions of the tests.
soak *args:
    BELLJAR_SOAK=1 BELLJAR_TEST_TIMEOUT=3600 cargo test --release {{ args }}

# Feeds a fuzz target (wire, proc_text, policy, profile, archive, image) for some seconds; see docs/testing.md.
fuzz target seconds="600":
    mkdir -p fuzz/corpus/{{ target }}
    cargo +nightly fuzz run {{ target }} fuzz/corpus/{{ target }} fuzz/seeds/{{ target }} -- -max_total_time={{ seconds }} -max_len=4096 -timeout=20 -print_final_stats=1

# The documentation, in the browser.
doc:
    cargo doc --no-deps --all-features --open

# The cost of a spawn as a ladder, against the bare kernel cost of the same isolation, and by the number of layers.
bench:
    cargo bench --bench spawn
    cargo bench --bench spawn -- --ratio
    cargo bench --bench spawn -- --layers

# What was aimed at beside what is reached, and other sandboxes as far as they are installed: into docs/benchmarks.md.
targets:
    cargo build --release --example jail
    cargo bench --bench peers
    cargo bench --bench spawn -- --targets --write

# The main job: judge real submissions.
judge:
    cargo run --release --example judge

# Everything that is checked before a change is taken.
ci:
    bash .ci/run
