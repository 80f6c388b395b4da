"""Compares instruction counts with benches/baseline.json. Run `ci/instructions`, which brings the tools.

A count depends on the machine's architecture, the compiler, valgrind and the runner, so the baseline records them: where
one differs the counts are printed and nothing is gated.
"""

import json, os, platform, subprocess, sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BASELINE = os.path.join(ROOT, "benches", "baseline.json")
ALLOWANCE = 0.02


def out(*command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, **options).stdout


def measure():
    env = dict(os.environ, IAI_CALLGRIND_COLOR="never")
    text = out("cargo", "bench", "--quiet", "-p", "chronicle-benches", "--bench", "instructions", "--",
               "--output-format=json", env=env)
    counts = {}
    for line in text.splitlines():
        if not line.startswith("{"):
            continue
        one = json.loads(line)
        name = one["function_name"] + (f".{one['id']}" if one.get("id") else "")
        counts[name] = instructions(one)
    if not counts:
        sys.exit("instructions: the benchmark printed no counts")
    return counts


def instructions(benchmark):
    metrics = benchmark["profiles"][0]["summaries"]["total"]["summary"]["Callgrind"]["Ir"]["metrics"]
    # `Both` where an earlier run left its figures: the new one comes first.
    new = metrics["Left"] if "Left" in metrics else metrics["Both"][0]
    return new["Int"]


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
    counts = measure()
    if update:
        with open(BASELINE, "w", encoding="utf-8") as file:
            json.dump({"tools": tools, "instructions": counts}, file, indent=2)
            file.write("\n")
        print(f"instructions: {len(counts)} counts written to benches/baseline.json")
        return
    baseline = json.load(open(BASELINE, encoding="utf-8"))
    differing = [f"{name}: {baseline['tools'].get(name)} in the baseline, {version} here"
                 for name, version in tools.items() if baseline["tools"].get(name) != version]
    more = []
    print(f"{'of 1000 events':<44}{'baseline':>12}{'here':>12}{'':>9}")
    for name in sorted(counts.keys() | baseline["instructions"].keys()):
        before, now = baseline["instructions"].get(name), counts.get(name)
        if before is None or now is None:
            print(f"{name:<44}{before if before is not None else 'none':>12}{now if now is not None else 'none':>12}")
            more.append(f"{name}: {'not in the baseline' if before is None else 'not measured any more'}")
            continue
        print(f"{name:<44}{before:>12}{now:>12}{now / before - 1:>+9.1%}")
        if now > before * (1 + ALLOWANCE):
            more.append(f"{name}: {before} became {now}")
        elif now < before * (1 - ALLOWANCE):
            print(f"  better by more than {ALLOWANCE:.0%}: `ci/instructions --update` keeps it so")
    if differing:
        print("instructions: other tools than the baseline's, nothing is gated:\n  " + "\n  ".join(differing))
    elif more:
        sys.exit("instructions: more than the baseline allows:\n  " + "\n  ".join(more))


main()
