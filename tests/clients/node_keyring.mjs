// Reads or replaces the cache that @azure/identity-cache-persistence keeps, through its own persistence.
//
//   node_keyring.mjs load [NAME]      prints the cache as it is
//   node_keyring.mjs save [NAME]      keeps what stands on stdin
//
// On Linux without unsafeAllowUnencryptedStorage: in the Secret Service, through keytar.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(new URL("../../.deps/node/", import.meta.url));
const folder = "./node_modules/@azure/identity-cache-persistence/dist/commonjs/";
const { createPersistence } = require(`${folder}provider.js`);

const [command, name] = process.argv.slice(2);
const persistence = await createPersistence({ name });
if (command === "save") {
  await persistence.save(readFileSync(0, "utf8"));
} else {
  process.stdout.write((await persistence.load()) ?? "");
}
