"""Draws what the benchmarks measured and prints their tables.

    python benchmarks/figures.py

Reads `results/*.json` and writes `results/*.png` and `results/tables.md`.
"""

import measure
from matplotlib.figure import Figure

BACKENDS = ("tensorflow", "jax", "torch")
NETWORKS = {
    "resnet20": "ResNet-20, batch 128",
    "digits": "digits CNN, batch 100",
}


def attack_table():
    """Markdown of image-steps per second and ratios."""
    lines = [
        "| backend | network | way | image-steps/s | of peak | ours / it |",
        "|---|---|---|---|---|---|",
    ]
    found = {b: measure.load(f"attack-{b}") or {} for b in BACKENDS}
    # The best of the three frameworks: it is the machine's that counts.
    peak = max(
        part[k]["peak_flops"]
        for part in found.values()
        for k in part
        if k in NETWORKS
    )
    for backend, results in found.items():
        for key, name in NETWORKS.items():
            part = results.get(key, {"ways": {}})
            for way, line in part["ways"].items():
                rate = line["per_second"]
                share = rate * part["flops_per_image_step"] / peak
                lines.append(
                    f"| {backend} | {name} | {way} | {rate:,.0f} "
                    f"| {100 * share:.0f} % "
                    f"| {line['ours_is_faster_by']:.2f} |"
                )
    lines += ["", f"The peak is {peak / 1e9:.0f} GFLOP/s (2048 x 2048)."]
    return lines


def attack_figure():
    """Bars: how many times faster ours is."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots(1, len(NETWORKS))
    for ax, (key, title) in zip(axes, NETWORKS.items(), strict=True):
        names, values, colors = [], [], []
        for number, backend in enumerate(BACKENDS):
            found = measure.load(f"attack-{backend}")
            for way, line in (found or {}).get(key, {}).get("ways", {}).items():
                if way != "keras_robust":
                    names.append(f"{way} ({backend})")
                    values.append(line["ours_is_faster_by"])
                    colors.append(f"C{number}")
        ax.barh(names[::-1], values[::-1], color=colors[::-1])
        ax.axvline(1, color="black", linewidth=0.8)
        ax.set_xscale("log")
        ticks = [t for t in (1, 2, 5, 10, 20, 50) if t <= 1.3 * max(values)]
        ax.set_xticks(ticks, [f"{t}x" for t in ticks])
        ax.minorticks_off()
        ax.tick_params(labelsize=7)
        ax.set_title(f"faster by, {title}", fontsize=8)
    figure.savefig(measure.RESULTS / "attack.png", dpi=120)


def curves_figure():
    """Image-steps per second over batch, steps, images, depth, width."""
    found = {b: measure.load(f"attack-curves-{b}") for b in BACKENDS}
    found = {b: f["curves"] for b, f in found.items() if f}
    if not found:
        return
    names = list(max(found.values(), key=len))
    figure = Figure(figsize=(9, 5), layout="constrained")
    for ax, name in zip(figure.subplots(2, 3).flat, names, strict=True):
        for number, backend in enumerate(BACKENDS):
            if name in found.get(backend, {}):
                points = found[backend][name]
                ax.plot(
                    [int(point) for point in points],
                    [line["per_second"] for line in points.values()],
                    color=f"C{number}",
                    marker="os^"[number],
                    markersize=3,
                    label=backend,
                )
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_title(name, fontsize=8)
        ax.tick_params(which="both", labelsize=7)
        if max(len(f.get(name, {})) for f in found.values()) == 4:
            points = [int(p) for p in found["tensorflow"][name]]
            ax.set_xticks(points, [f"{p:,}" for p in points])
            ax.minorticks_off()
    figure.axes[1].legend(fontsize=7)
    figure.supylabel("image-steps/s", fontsize=8)
    figure.savefig(measure.RESULTS / "curves.png", dpi=120)


def inversion_figure():
    """Distance left over gradients, by rule."""
    sets = ("cifar10", "fashion_mnist")
    found = {s: measure.load(f"inversion-{s}") for s in sets}
    found = {s: f for s, f in found.items() if f}
    if not found:
        return
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, len(found), squeeze=False)[0]
    for ax, (name, results) in zip(axes, found.items(), strict=True):
        for number, (rule, left) in enumerate(results["adversarial"].items()):
            ours = rule in ("polyak", "gradient_descent")
            ax.plot(
                [int(mark) for mark in left],
                [100 * share for share in left.values()],
                label=rule,
                linewidth=2.5 if ours else 1,
                linestyle="-" if ours else ("--", ":", "-.")[number % 3],
            )
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_title(f"{name}, adversarial network", fontsize=8)
        ax.set_xlabel("gradients", fontsize=8)
        ax.tick_params(labelsize=7)
    axes[0].set_ylabel("distance left, %", fontsize=8)
    axes[-1].legend(fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(measure.RESULTS / "inversion.png", dpi=120)


def inversion_table():
    """Markdown of the distance left."""
    lines = []
    for name in ("cifar10", "fashion_mnist"):
        found = measure.load(f"inversion-{name}") or {}
        for kind in ("adversarial", "standard"):
            if kind not in found:
                continue
            marks = list(next(iter(found[kind].values())))
            lines += [
                "",
                f"Distance left after so many gradients, %: {name}, {kind} "
                f"network, {found['images']} images",
                "",
                "| rule | " + " | ".join(marks) + " |",
                "|---|" + "---|" * len(marks),
            ]
            for rule, left in found[kind].items():
                cells = " | ".join(f"{100 * v:.1f}" for v in left.values())
                lines.append(f"| {rule} | {cells} |")
    found = measure.load("inversion-training")
    if found:
        rows = found["trained_on"]
        radii = list(next(iter(rows.values()))["mean"])
        lines += [
            "",
            "Networks trained on D_R of Fashion-MNIST, accuracy in %, mean and "
            "standard deviation over seeds 0 to 2",
            "",
            "| D_R by | distance left | seconds | " + " | ".join(radii) + " |",
            "|---|---|---|" + "---|" * len(radii),
        ]
        for name, row in rows.items():
            left = row["distance_left"]
            share = "" if left is None else f"{100 * left:.1f} %"
            cells = " | ".join(
                f"{100 * row['mean'][r]:.1f} ± {100 * row['spread'][r]:.1f}"
                for r in radii
            )
            lines.append(
                f"| {name} | {share} | {row['seconds']:.0f} | {cells} |"
            )
    return lines


def other_tables():
    """Evaluation, training, generation, overhead, half precision, memory."""
    lines = ["", "| what | backend | figure |", "|---|---|---|"]

    def line(what, backend, figure):
        lines.append(f"| {what} | {backend} | {figure} |")

    for backend in BACKENDS:
        found = measure.load(f"attack-{backend}")
        if found:
            for name, more in found["overhead_ms"].items():
                line(f"overhead at batch 1, {name}", backend, f"{more:.2f} ms")
            gain = found["mixed_bfloat16"]["gain"]
            line("mixed_bfloat16 / float32", backend, f"{gain:.2f}")
        found = measure.load(f"training-{backend}")
        if found:
            share = found["of_parts"]
            line("training step / its parts", backend, f"{share:.3f}")
        for steps in (20, 100):
            found = measure.load(f"generation-{steps}-steps-{backend}")
            for way in ("map", "generate") if found else ():
                share = found[way]["of_bare"]
                what = f"{way} / bare transform, {steps} steps"
                line(what, backend, f"{share:.3f}")
        found = measure.load(f"attack-memory-{backend}")
        for count, mebibytes in (found or {}).get("MiB", {}).items():
            what = f"memory beyond the arrays, {count} images"
            line(what, backend, f"{mebibytes:.0f} MiB")
        for dataset in ("cifar10", "fashion_mnist"):
            found = measure.load(f"evaluation-{dataset}-{backend}") or {}
            for key, part in found.items():
                if isinstance(part, dict) and "survivors_faster_by" in part:
                    faster = part["survivors_faster_by"]
                    what = f"survivors only, {dataset}, {key}"
                    line(what, backend, f"{faster:.2f} times faster")
    return lines


def main():
    """All figures and tables."""
    attack_figure()
    curves_figure()
    inversion_figure()
    lines = [*attack_table(), *other_tables(), *inversion_table()]
    text = "\n".join(lines) + "\n"
    (measure.RESULTS / "tables.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
