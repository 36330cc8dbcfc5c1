// Compile the Kaitai Struct descriptions of the format to Python parsers.
//
//     npm install --no-package-lock && node compile.mjs [KSY_DIR [OUT_DIR]]
//
// KSY_DIR defaults to the folder above this file (spec/), OUT_DIR to this one (spec/kaitai/), whose parsers are
// committed. tests/spec/test_kaitai.py compiles again into a scratch folder and compares.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import KaitaiStructCompiler from "kaitai-struct-compiler";
import { load } from "js-yaml";

const here = dirname(fileURLToPath(import.meta.url));
const [ksyDir = join(here, ".."), outDir = here] = process.argv.slice(2);
const noImports = {
  importYaml: (name) => Promise.reject(new Error(`${name}: these descriptions stand alone, they import nothing`)),
};

for (const name of readdirSync(ksyDir).filter((each) => each.endsWith(".ksy")).sort()) {
  const description = load(readFileSync(join(ksyDir, name), "utf8"));
  const sources = await KaitaiStructCompiler.compile("python", description, noImports, false);
  for (const [file, text] of Object.entries(sources)) {
    writeFileSync(join(outDir, file), text);
    console.log(`${name} -> ${file}`);
  }
}
