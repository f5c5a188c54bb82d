// Gets a token with a credential of @azure/identity that finds everything by itself, as programs in the field do.
//
//   any_credential.mjs [--credential NAME] [--scope S] [--client-id ID] [--tenant T]
//   any_credential.mjs --fetch             with Node's own fetch, by hand
//
// Prints {"ok": true, "token", "expires_on"}, or {"ok": false, "error", "message"} with exit code 4 if the credential is
// unavailable, else 1.

import { createRequire } from "node:module";
import { parseArgs } from "node:util";

// The packages are not beside this file, but where scripts/setup puts them.
const require = createRequire(new URL("../../.deps/node/", import.meta.url));
const identity = require("@azure/identity");

const { values: flags } = parseArgs({
  options: {
    "client-id": { type: "string" },
    credential: { type: "string", default: "DefaultAzureCredential" },
    fetch: { type: "boolean", default: false },
    scope: { type: "string", default: "https://management.azure.com/.default" },
    tenant: { type: "string" },
  },
});

async function byFetch() {
  const query = new URLSearchParams({ "api-version": "2019-08-01", resource: flags.scope.replace(/\/\.default$/, "") });
  const headers = { "X-IDENTITY-HEADER": process.env.IDENTITY_HEADER };
  const answer = await fetch(`${process.env.IDENTITY_ENDPOINT}?${query}`, { headers });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  const { access_token, expires_on } = await answer.json();
  return { token: access_token, expiresOnTimestamp: expires_on * 1000 };
}

async function byCredential() {
  const options = flags["client-id"] ? { clientId: flags["client-id"] } : {};
  const credential = new identity[flags.credential](options);
  return credential.getToken(flags.scope, flags.tenant ? { tenantId: flags.tenant } : {});
}

try {
  const { token, expiresOnTimestamp } = await (flags.fetch ? byFetch() : byCredential());
  console.log(JSON.stringify({ ok: true, token, expires_on: Math.floor(expiresOnTimestamp / 1000) }));
} catch (error) {
  console.log(JSON.stringify({ ok: false, error: error.name, message: error.message }));
  process.exitCode = error.name === "CredentialUnavailableError" ? 4 : 1;
}
