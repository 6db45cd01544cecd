// axe cannot look into a canvas: the contrast of the palette is computed instead.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";

const css = readFileSync(new URL("../src/styles/tokens.css", import.meta.url), "utf8");
const tokens = new Map([...css.matchAll(/--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)/g)].map(([, name, light, dark]) => [name!, [light!, dark!] as const]));
const THEMES = ["light", "dark"] as const;
const color = (name: string, theme: (typeof THEMES)[number]): string => tokens.get(name)![theme === "light" ? 0 : 1];

const linear = (hex: string): number[] =>
  [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));

function contrast(a: string, b: string): number {
  const luminance = (hex: string) => {
    const [r, g, bl] = linear(hex) as [number, number, number];
    return 0.2126 * r + 0.7152 * g + 0.0722 * bl;
  };
  const [x, y] = [luminance(a), luminance(b)].sort((m, n) => n - m) as [number, number];
  return (x + 0.05) / (y + 0.05);
}

type Rgb = [number, number, number];

/** Machado 2009, severity 1: what protan, deutan and tritan readers see. */
const SIGHTS: Record<string, Rgb[]> = {
  normal: [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
  protan: [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
  deutan: [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
  tritan: [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
};

function oklab(hex: string, sight: Rgb[]): Rgb {
  const rgb = linear(hex) as Rgb;
  const seen = sight.map((row) => Math.min(1, Math.max(0, row[0] * rgb[0] + row[1] * rgb[1] + row[2] * rgb[2]))) as Rgb;
  const mix = (a: number, b: number, c: number) => Math.cbrt(a * seen[0] + b * seen[1] + c * seen[2]);
  const l = mix(0.4122214708, 0.5363325363, 0.0514459929);
  const m = mix(0.2119034982, 0.6806995451, 0.1073969566);
  const s = mix(0.0883024619, 0.2817188376, 0.6299787005);
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ];
}

const distance = (a: Rgb, b: Rgb): number => Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
const series = (theme: (typeof THEMES)[number]) => [1, 2, 3, 4, 5].map((n) => color(`series-${n}`, theme));

describe.each(THEMES)("the %s theme", (theme) => {
  it.each(["fg", "dim", "accent", "ok", "warn", "bad"])("has text in %s that can be read on cards, page and tint", (name) => {
    for (const ground of ["surface", "bg", "tint"]) {
      expect(contrast(color(name, theme), color(ground, theme)), `${name} on ${ground}`).toBeGreaterThanOrEqual(4.5);
    }
  });

  it("has readable words on its buttons", () => {
    expect(contrast(color("on-accent", theme), color("accent", theme))).toBeGreaterThanOrEqual(4.5);
    expect(contrast(color("on-accent", theme), color("bad", theme))).toBeGreaterThanOrEqual(4.5);
    expect(contrast(color("bg", theme), color("warn", theme))).toBeGreaterThanOrEqual(4.5);
  });

  it("draws every series with 3:1 on a card", () => {
    for (const one of series(theme)) expect(contrast(one, color("surface", theme)), one).toBeGreaterThanOrEqual(3);
  });

  it.each(Object.keys(SIGHTS))("has series that %s readers can tell apart, and none like a failure", (sight) => {
    const labs = series(theme).map((one) => oklab(one, SIGHTS[sight]!));
    for (let i = 0; i < labs.length; i += 1) {
      for (let j = 0; j < i; j += 1) expect(distance(labs[i]!, labs[j]!), `${i + 1} and ${j + 1}`).toBeGreaterThanOrEqual(0.15);
    }
  });
});

it("has all tokens in both themes", () => {
  expect(tokens.size).toBeGreaterThanOrEqual(16);
});
