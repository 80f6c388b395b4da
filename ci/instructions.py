"""Compares instruction counts with benches/baseline.json and with bounds. Run `ci/instructions`, which brings the tools.

A count depends on the machine's architecture, the compiler, valgrind and the runner, so the baseline records them: where
one differs the counts are printed and nothing is gated.

What the C library's memcpy and its kin take is counted apart: which of its variants runs is up to the processor. A core
step that calls none shows no such figure.
"""

import json, os, platform, re, subprocess, sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BASELINE = os.path.join(ROOT, "benches", "baseline.json")
ALLOWANCE = 0.02
EVENTS = 1000

# The most that a step may take, an event, above what its loop takes by itself: {step: (bound, loop)}. These are targets,
# not what was once measured: no --update moves them.
BOUNDS = {
    "slots_push.one": (27, "loop_alone.with_a_number"),
    "slots_pop.one": (21, "loop_looking.with_a_look"),
    "local_push.one": (27, "loop_alone.with_a_number"),
    # Above the 21 of `slots_pop`: docs/instructions.md says why.
    "local_pop.one": (26, "loop_looking.with_a_look"),
    "local_take.chunks_of_32": (21, "loop_looking.with_a_look"),
    "spsc_push.known_length": (45, "loop_alone.with_a_number"),
    "spsc_pop.copied": (45, "loop_looking.with_a_look"),
    # One load of the wake word and one branch: load, test, jump; and what finds the region again, here through an `Arc`.
    "spsc_push_and_ask.known_length": (6, "spsc_push.known_length"),
}
COPIES = re.compile(r"^fn=.*\b_*(memcpy|memmove|memset)")


def out(*command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, **options).stdout


def measure():
    env = dict(os.environ, IAI_CALLGRIND_COLOR="never")
    text = out("cargo", "bench", "--quiet", "-p", "chronicle-benches", "--bench", "instructions", "--",
               "--output-format=json", env=env)
    counts, copies = {}, {}
    for line in text.splitlines():
        if not line.startswith("{"):
            continue
        one = json.loads(line)
        name = one["function_name"] + (f".{one['id']}" if one.get("id") else "")
        copies[name] = copied(one)
        counts[name] = instructions(one) - copies[name]
    if not counts:
        sys.exit("instructions: the benchmark printed no counts")
    return counts, copies


def instructions(benchmark):
    metrics = benchmark["profiles"][0]["summaries"]["total"]["summary"]["Callgrind"]["Ir"]["metrics"]
    # `Both` where an earlier run left its figures: the new one comes first.
    new = metrics["Left"] if "Left" in metrics else metrics["Both"][0]
    return new["Int"]


def copied(benchmark):
    """Instructions inside the C library's copies: the lines of callgrind's file that are their own, not their callees'."""
    total = 0
    for path in benchmark["profiles"][0]["out_paths"]:
        inside = callee = False
        for line in open(path, encoding="utf-8", errors="replace"):
            if line.startswith("fn="):
                inside = bool(COPIES.match(line))
            elif line.startswith("calls="):
                callee = True
            elif line[:1] in "0123456789+-*":
                if inside and not callee:
                    total += int(line.split()[1])
                callee = False
    return total


def above(counts):
    """Steps that take more than their bound."""
    failed = []
    print(f"\n{'of one event, without the loop':<44}{'bound':>12}{'here':>12}")
    for name, (bound, loop) in BOUNDS.items():
        if name not in counts or loop not in counts:
            failed.append(f"{name}: has a bound and was not measured")
            continue
        here = (counts[name] - counts[loop]) / EVENTS
        print(f"{name:<44}{bound:>12}{here:>12.1f}")
        # What happens once for all events is not part of the step.
        if here > bound + 0.5:
            failed.append(f"{name}: at most {bound} instructions an event, {here:.1f} here")
    return failed


def main():
    iai, *words = sys.argv[1:]
    update = words == ["--update"]
    if words and not update:
        sys.exit(f"instructions: {' '.join(words)}: the one flag is --update")
    tools = {
        "machine": platform.machine(),
        "rustc": out("rustc", "--version").strip(),
        "valgrind": out("valgrind", "--version").strip(),
        "iai-callgrind": iai,
    }
    counts, copies = measure()
    if update:
        with open(BASELINE, "w", encoding="utf-8") as file:
            json.dump({"tools": tools, "instructions": counts}, file, indent=2)
            file.write("\n")
        print(f"instructions: {len(counts)} counts written to benches/baseline.json")
        if failed := above(counts):
            sys.exit("instructions: more than a bound allows:\n  " + "\n  ".join(failed))
        return
    baseline = json.load(open(BASELINE, encoding="utf-8"))
    differing = [f"{name}: {baseline['tools'].get(name)} in the baseline, {version} here"
                 for name, version in tools.items() if baseline["tools"].get(name) != version]
    more = []
    print(f"{f'of {EVENTS} events':<44}{'baseline':>12}{'here':>12}{'':>9}{'memcpy':>12}")
    for name in sorted(counts.keys() | baseline["instructions"].keys()):
        before, now = baseline["instructions"].get(name), counts.get(name)
        if before is None or now is None:
            print(f"{name:<44}{before if before is not None else 'none':>12}{now if now is not None else 'none':>12}")
            more.append(f"{name}: {'not in the baseline' if before is None else 'not measured any more'}")
            continue
        print(f"{name:<44}{before:>12}{now:>12}{now / before - 1:>+9.1%}{copies[name] or '':>12}")
        if now > before * (1 + ALLOWANCE):
            more.append(f"{name}: {before} became {now}")
        elif now < before * (1 - ALLOWANCE):
            print(f"  better by more than {ALLOWANCE:.0%}: `ci/instructions --update` keeps it so")
    more += above(counts)
    if differing:
        print("instructions: other tools than the baseline's, nothing is gated:\n  " + "\n  ".join(differing))
    elif more:
        sys.exit("instructions: more than the baseline allows:\n  " + "\n  ".join(more))


main()
