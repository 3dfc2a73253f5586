// Prints the licence of every package that the bundle holds a part of.
import {readFileSync, readdirSync} from "node:fs";

const meta = JSON.parse(readFileSync(process.argv[2]));
const packages = new Set();
for (const path of Object.values(meta.outputs).flatMap((o) => Object.entries(o.inputs)).filter(([, use]) => use.bytesInOutput > 0).map(([p]) => p)) {
  const m = path.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)\//);
  if (m) packages.add(m[1]);
}
console.log("plot.js holds parts of these packages, under these licences.");
for (const name of [...packages].sort()) {
  const dir = `node_modules/${name}`;
  const {version, license} = JSON.parse(readFileSync(`${dir}/package.json`));
  const file = readdirSync(dir).find((f) => /^licen[cs]e/i.test(f));
  if (!file) throw new Error(`${name} comes without its licence`);
  console.log(`\n${"=".repeat(72)}\n${name} ${version} (${license})\n\n${readFileSync(`${dir}/${file}`, "utf8").trim()}`);
}
