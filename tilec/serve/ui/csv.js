// Tables as files. A cell that a spreadsheet would take for a formula gets an apostrophe before it
// (OWASP, CSV injection); numbers stay numbers.

const FORMULA = /^[\s]*[=+\-@\t\r|%]/;

export function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  const text = FORMULA.test(value) ? `'${value}` : String(value);
  return `"${text.replaceAll('"', '""')}"`;
}

export function csv(rows) {
  return rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

// A name that is safe for a file: letters, digits, points and dashes.
export function fileName(text, suffix) {
  const plain = text.replaceAll(/[^A-Za-z0-9.-]+/g, "-").replaceAll(/^[-.]+|[-.]+$/g, "");
  return `${plain.slice(0, 80) || "study"}.${suffix}`;
}

export function download(name, kind, text) {
  const url = URL.createObjectURL(new Blob([text], { type: kind }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
