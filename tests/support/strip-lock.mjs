// Takes registry addresses out of an npm lock file: node strip-lock.mjs package-lock.json
//
// It also names the builds of msgpackr-extract for other platforms, which npm leaves out where the
// registry does not have them; without their names `npm ci` refuses the file.

import fs from 'node:fs';

const file = process.argv[2];
const lock = JSON.parse(fs.readFileSync(file, 'utf8'));
const extract = lock.packages['node_modules/msgpackr-extract'];
if (extract) {
  for (const platform of Object.keys(extract.optionalDependencies)) {
    const [os, cpu] = platform.split('-').slice(-2);
    lock.packages[`node_modules/${platform}`] ??= {
      version: extract.version, cpu: [cpu], license: 'MIT', optional: true, os: [os],
    };
  }
}
for (const entry of Object.values(lock.packages)) delete entry.resolved;
lock.packages = Object.fromEntries(Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : 1)));
fs.writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`);
