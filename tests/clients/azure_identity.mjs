// Uses the persistent cache through @azure/identity itself, with its persistence plugin, as a program would.
//
//   azure_identity.mjs token --record FILE     a token for the record's account, never asking a person
//   azure_identity.mjs login --user U          device code, approved at once by the test provider
//
// Further: --cache NAME        without it the default names, msal.cache.nocae and msal.cache.cae
//          --plaintext         unsafeAllowUnencryptedStorage
//          --cae               continuous access evaluation
//          --client-id ID --scope S --record-out FILE
//
// Prints one line of JSON: {"ok": true, "token", "expires_on"}, or {"ok": false, "error", "message"} with exit code 3 if a
// person would have to sign in, else 1.

import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { parseArgs } from "node:util";

// The packages are not beside this file, but where scripts/setup puts them.
const require = createRequire(new URL("../../.deps/node/", import.meta.url));
const {
  DeviceCodeCredential,
  deserializeAuthenticationRecord,
  serializeAuthenticationRecord,
  useIdentityPlugin,
} = require("@azure/identity");
useIdentityPlugin(require("@azure/identity-cache-persistence").cachePersistencePlugin);

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    authority: { type: "string", default: "https://login.microsoftonline.com" },
    cache: { type: "string" },
    cae: { type: "boolean", default: false },
    "client-id": { type: "string" },
    plaintext: { type: "boolean", default: false },
    record: { type: "string" },
    "record-out": { type: "string" },
    scope: { type: "string", default: "https://management.core.windows.net//.default" },
    user: { type: "string" },
  },
});

function report(answer) {
  console.log(JSON.stringify(answer));
}

function credential(options) {
  const persistence = { enabled: true, unsafeAllowUnencryptedStorage: flags.plaintext };
  if (flags.cache) persistence.name = flags.cache;
  return new DeviceCodeCredential({ tokenCachePersistenceOptions: persistence, ...options });
}

async function approve(code) {
  const answer = await fetch(`${flags.authority}/_control/approve`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ user_code: code.userCode, user: flags.user }),
  });
  if (!answer.ok) throw new Error(`the test provider answered ${answer.status} to the approval`);
}

async function token(credential) {
  const token = await credential.getToken(flags.scope, { enableCae: flags.cae });
  return { token: token.token, expires_on: Math.floor(token.expiresOnTimestamp / 1000) };
}

const commands = {
  async token() {
    const record = deserializeAuthenticationRecord(readFileSync(flags.record, "utf8"));
    const clientId = flags["client-id"] ?? record.clientId;
    const options = { authenticationRecord: record, clientId, disableAutomaticAuthentication: true };
    return token(credential(options));
  },
  async login() {
    const options = flags["client-id"] ? { clientId: flags["client-id"] } : {};
    const signedIn = credential({ ...options, userPromptCallback: approve });
    const record = await signedIn.authenticate(flags.scope, { enableCae: flags.cae });
    if (flags["record-out"]) writeFileSync(flags["record-out"], serializeAuthenticationRecord(record));
    return token(signedIn);
  },
};

const command = commands[positionals[0]];
if (!command) {
  console.error("usage: azure_identity.mjs token --record FILE | login --user U [...]");
  process.exit(2);
}
try {
  report({ ok: true, ...(await command()) });
} catch (error) {
  report({ ok: false, error: error.name, message: error.message });
  process.exitCode = error.name === "AuthenticationRequiredError" ? 3 : 1;
}
