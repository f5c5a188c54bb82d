//! What each tool looks for in its cache: a row for each profile of the store (spec S-C 1.4, 1.7).

use crate::document::Dialect;
use crate::store::Silo;

/// The client of the Azure CLI, which azd and every SDK's developer sign-on use, too.
pub(super) const AZURE_CLI: &str = "04b07795-8ddb-461a-bbee-02f9e1bf7b46";
const AZURE_POWERSHELL: &str = "1950a258-227b-4e31-a9cf-717495945fc2";
const GRAPH_POWERSHELL: &str = "14d82eec-204b-4c2f-b7e8-296a70dab67e";
const VISUAL_STUDIO: &str = "872cd9fa-d31f-45e0-9eab-6e460a02d1f1";

/// Clients of the tools below that are known to redeem each other's refresh tokens, from the
/// published research on families of client ids. Graph PowerShell's is not among them.
pub(super) const FAMILY: [&str; 3] = [AZURE_CLI, AZURE_POWERSHELL, VISUAL_STUDIO];

/// How a tool uses its cache.
#[derive(Debug)]
pub struct Tool {
    /// The [`crate::store::Profile::id`] of its caches.
    pub id: &'static str,
    /// How it spells what it adds.
    pub(super) dialect: Dialect,
    pub(super) clients: Clients,
    /// How a person signs in with it.
    pub(super) sign_in: &'static str,
    /// Where it keeps who is signed in, if the cache alone is not enough.
    pub also_needs: Option<&'static str>,
}

/// As which application a tool signs in.
#[derive(Debug)]
pub(super) enum Clients {
    /// As whichever its program is; this one if the program does not say.
    Any(&'static str),
    /// As one of these.
    Own(&'static [&'static str]),
}

const RECORD: Option<&str> =
    Some("programs find the account by an authentication record: tokenkeep record export FILE");

/// An SDK: any program may use its cache.
const fn sdk(id: &'static str, dialect: Dialect) -> Tool {
    Tool {
        id,
        dialect,
        clients: Clients::Any(AZURE_CLI),
        sign_in: "sign in with the program that needs it, once",
        also_needs: RECORD,
    }
}

static TOOLS: [Tool; 12] = [
    sdk("python", Dialect::Own),
    sdk("node", Dialect::Node),
    sdk("dotnet", Dialect::DotNet),
    sdk("java", Dialect::DotNet),
    sdk("go", Dialect::Go),
    sdk("go-old", Dialect::Go),
    Tool {
        id: "az",
        dialect: Dialect::Python,
        clients: Clients::Own(&[AZURE_CLI]),
        sign_in: "sign in with it, once: az login",
        also_needs: Some(
            "az uses the accounts of its azureProfile.json only; if this is none of them: az login",
        ),
    },
    Tool {
        id: "azd",
        dialect: Dialect::Go,
        clients: Clients::Own(&[AZURE_CLI]),
        sign_in: "sign in with it, once: azd auth login",
        also_needs: Some(
            "azd uses the account of its auth.json only; if this is another one: azd auth login",
        ),
    },
    Tool {
        id: "az-powershell",
        dialect: Dialect::DotNet,
        clients: Clients::Own(&[AZURE_POWERSHELL]),
        sign_in: "sign in with it, once: Connect-AzAccount",
        also_needs: Some(
            "Azure PowerShell uses the accounts of its AzureRmContext.json only; if this is none of them: \
             Connect-AzAccount",
        ),
    },
    Tool {
        id: "graph-powershell",
        dialect: Dialect::DotNet,
        clients: Clients::Own(&[GRAPH_POWERSHELL]),
        sign_in: "sign in with it, once: Connect-MgGraph",
        also_needs: None,
    },
    Tool {
        id: "gcm",
        dialect: Dialect::DotNet,
        clients: Clients::Own(&[VISUAL_STUDIO]),
        sign_in: "sign in with it, once: git fetch, in a repository of Azure Repos",
        also_needs: None,
    },
    Tool {
        id: "gcm-app",
        dialect: Dialect::DotNet,
        clients: Clients::Own(&[]),
        sign_in: "let Git Credential Manager look after it",
        also_needs: None,
    },
];

impl Tool {
    /// The tool of this profile.
    #[must_use]
    pub fn of(id: &str) -> Option<&'static Self> {
        TOOLS.iter().find(|tool| tool.id == id)
    }
}

/// How to spell what goes into a silo: as its tools do, or as all can read it if they differ.
pub(super) fn dialect_of(silo: &Silo) -> Dialect {
    let mut dialects =
        silo.profiles().iter().filter_map(|profile| Tool::of(profile.id)).map(|tool| tool.dialect);
    match dialects.next() {
        Some(first) if dialects.all(|other| other == first) => first,
        _ => Dialect::Own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::PROFILES;

    #[test]
    fn every_profile_has_its_row() {
        for profile in PROFILES {
            assert!(Tool::of(profile.id).is_some(), "{}", profile.id);
        }
        assert_eq!(TOOLS.len(), PROFILES.len());
    }
}
