import { describe, expect, it } from "vitest";
import { csv } from "../src/charts/csv.ts";
import { ago, axisMoments, clock, duration, figure, isNumber, moment, withUnit } from "../src/charts/format.ts";

const en = { locale: "en-GB", timeZone: "UTC" };
const de = { locale: "de-DE", timeZone: "UTC" };
/** Locales use several spaces; a test of figures should not care which. */
const plain = (text: string) => text.replace(/[\u00a0\u202f]/g, " ");

describe("figures", () => {
  it("have the decimals of their unit", () => {
    expect(plain(withUnit("97.5925925925925926", "percent", en))).toBe("97.59 %");
    expect([withUnit("0.73999", "fraction", en), withUnit("1", "fraction", en)]).toEqual(["0.740", "1"]);
    expect(plain(withUnit("12.3456", "seconds", en))).toBe("12.35 s");
    expect(plain(withUnit("2160", "units", en))).toBe("2,160 units");
    expect(plain(withUnit("0.12345", "currency per unit", en))).toBe("0.1235");
    expect(plain(withUnit("7.5", "rating 1-10", en))).toBe("7.5");
    expect(plain(withUnit("3", null, en))).toBe("3");
  });

  it("are written as the reader's locale writes them", () => {
    expect(plain(withUnit("1234567.891", "units", de))).toBe("1.234.567,9 units");
    expect(plain(withUnit("96.4", "percent", de))).toBe("96,40 %");
  });

  it("show what is no number as it is, and nothing as a dash", () => {
    expect(figure("MACHINE-R-03", null, en)).toBe("MACHINE-R-03");
    expect(figure(null)).toBe("–");
    expect(figure("")).toBe("–");
    expect([isNumber("1e3"), isNumber("-0.5"), isNumber("0x10"), isNumber(" 1"), isNumber("NaN")]).toEqual([true, true, false, false, false]);
  });
});

describe("moments", () => {
  it("of a result are its own wall time, whatever zone the reader is in", () => {
    expect(moment("2026-08-24T00:00:00.000", en)).toBe("24 Aug 2026");
    expect(moment("2026-08-24T13:30:00.000", en)).toBe("24 Aug 2026, 13:30");
    expect(moment("2026-08-24", de)).toBe("24.08.2026");
  });

  it("on an axis leave out what they share", () => {
    expect(axisMoments(["2026-08-24T00:00:00.000", "2026-08-31"], en)).toEqual(["24 Aug", "31 Aug"]);
    expect(axisMoments(["2025-12-29", "2026-01-05"], en)).toEqual(["29 Dec 2025", "5 Jan 2026"]);
    expect(axisMoments(["2026-08-24T06:00:00.000"], en)).toEqual(["24 Aug, 06:00"]);
  });

  it("of the machine are shown in a zone", () => {
    expect(clock("2026-11-23T13:15:57Z", en)).toBe("23 Nov 2026, 13:15:57");
    expect(clock("2026-11-23T13:15:57Z", { locale: "en-GB", timeZone: "Europe/Berlin" })).toBe("23 Nov 2026, 14:15:57");
    expect(clock(null)).toBe("–");
  });

  it("that passed are counted in one unit", () => {
    expect(plain(duration(188, en))).toBe("188 ms");
    expect(plain(duration(1840, en))).toBe("1.8 s");
    expect(plain(duration(59_999, en))).toBe("60 s");
    expect(plain(duration(4 * 3_600_000, en))).toBe("4 h");
    expect(duration(null)).toBe("–");
    expect(plain(ago("2026-01-01T00:00:00Z", Date.parse("2026-01-01T00:03:00Z")))).toBe("3 min ago");
  });
});

describe("a file of rows", () => {
  it("quotes what needs it and defuses what a spreadsheet would run", () => {
    const columns = [
      { key: "a", title: "Name, long", numeric: false },
      { key: "b", title: "Rate", numeric: true },
    ];
    const rows = [
      { a: '=HYPERLINK("x")', b: "-1.5" },
      { a: "-danger", b: null },
    ];
    expect(csv(columns, rows)).toBe('"Name, long",Rate\r\n"\'=HYPERLINK(""x"")",-1.5\r\n\'-danger,\r\n');
  });
});
