// Builds ../static from the sources, and the digest by which a test sees that they fit.
import { createHash } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = fileURLToPath(new URL(".", import.meta.url));
const out = process.argv[2] ?? fileURLToPath(new URL("../static/", import.meta.url));

const SETTINGS = ["build.mjs", "package-lock.json", "package.json", "schema.json", "tsconfig.json"];

async function digest() {
  const found = await readdir(`${here}src`, { recursive: true, withFileTypes: true });
  const sources = found
    .filter((entry) => entry.isFile())
    .map((entry) => `${entry.parentPath}/${entry.name}`.slice(here.length).replace(/\\/g, "/"));
  const hash = createHash("sha256");
  for (const name of [...SETTINGS, ...sources].sort()) {
    hash.update(`${name}\0`);
    hash.update(await readFile(here + name));
    hash.update("\0");
  }
  return hash.digest("hex");
}

async function bundle(entry, options) {
  const result = await build({
    entryPoints: [`${here}src/${entry}`],
    bundle: true,
    minify: true,
    charset: "utf8",
    legalComments: "none",
    write: false,
    absWorkingDir: here,
    ...options,
  });
  return result.outputFiles[0].text;
}

const script = await bundle("main.ts", { format: "iife", target: "es2022" });
const style = await bundle("page.css", {});
for (const [name, text, unwanted] of [
  ["page.js", script, /<\/script|<!--/i],
  ["page.css", style, /<\/style/i],
]) {
  if (unwanted.test(text)) throw new Error(`${name} cannot stand inside HTML: ${unwanted}`);
}
await writeFile(`${out}/page.js`, script);
await writeFile(`${out}/page.css`, style);
await writeFile(`${out}/page.html`, await readFile(`${here}src/page.html`));
await writeFile(`${out}/page.source`, `${await digest()}\n`);
const kilobytes = (text) => (gzipSync(text).length / 1000).toFixed(1);
console.log(`page.js ${kilobytes(script)} kB, page.css ${kilobytes(style)} kB, gzipped`);
