//! The table: one row per tool (spec S-C 2.1 to 2.7, 3.1 and 3.3).

use super::super::Writing;
use super::super::encoding::Encoding;
use super::{Base, Folder, ItemRule, Locks, Names, PlaceRule, Profile, SiteRule, System, Word};

/// Every tool that we know, the default profile first.
pub static PROFILES: [&Profile; 12] = [
    &AZURE_IDENTITY,
    &NODE,
    &DOTNET,
    &JAVA,
    &GO,
    &GO_OLD,
    &AZ,
    &AZD,
    &AZ_POWERSHELL,
    &GRAPH_POWERSHELL,
    &GCM,
    &GCM_APP,
];

/// azure-identity for Python since 1.27, which the other SDKs follow in most places: ours.
pub(in super::super) static AZURE_IDENTITY: Profile = Profile {
    id: "python",
    title: "Azure SDK for Python",
    names: Names { base: "msal.cache", suffixes: BY_MODE, custom: Some(BY_MODE) },
    sites: &[
        SiteRule {
            place: PlaceRule::Item(
                ItemRule { schema: Word::Name, attributes: &[OWNER], label: Word::Fixed(MSAL_CACHE) },
                IDENTITY_SERVICE,
            ),
            ..LINUX
        },
        SiteRule { place: PlaceRule::File(IDENTITY_SERVICE), ..LINUX },
        SiteRule {
            systems: &[System::MacOs],
            place: PlaceRule::Keychain {
                service: Word::Fixed(DEVELOPER),
                account: Word::NameBut("msal.cache.nocae", MSAL_CACHE),
                signals: IDENTITY_SERVICE,
            },
            ..LINUX
        },
        WINDOWS,
    ],
};

static NODE: Profile = Profile {
    id: "node",
    title: "Azure SDK for JavaScript",
    names: Names { base: "msal.cache", suffixes: BY_MODE, custom: Some(["", ""]) },
    sites: &[
        SiteRule {
            place: PlaceRule::Item(
                ItemRule {
                    schema: Word::Fixed("org.freedesktop.Secret.Generic"),
                    attributes: &[("service", DEVELOPER), ("account", MSAL_CACHE)],
                    label: Word::Fixed("Microsoft.Developer.IdentityService/MSALCache"),
                },
                IDENTITY_SERVICE,
            ),
            ..LINUX
        },
        SiteRule {
            systems: &[System::MacOs],
            place: PlaceRule::Keychain {
                service: Word::Fixed(DEVELOPER),
                account: Word::Fixed(MSAL_CACHE),
                signals: IDENTITY_SERVICE,
            },
            ..LINUX
        },
        SiteRule {
            systems: &[System::Linux, System::MacOs],
            place: PlaceRule::File(IDENTITY_SERVICE),
            ..LINUX
        },
        WINDOWS,
    ],
};

static DOTNET: Profile = Profile {
    id: "dotnet",
    title: "Azure SDK for .NET",
    names: Names { base: "msal.cache", suffixes: BY_MODE, custom: Some(BY_MODE) },
    sites: &DOTNET_SITES,
};

static JAVA: Profile = Profile {
    id: "java",
    title: "Azure SDK for Java",
    names: Names { base: "msal.cache", suffixes: BY_MODE, custom: Some(BY_MODE) },
    sites: &[
        SiteRule {
            place: PlaceRule::Item(
                ItemRule {
                    schema: Word::Fixed("msal.cache"),
                    attributes: &[OWNER],
                    label: Word::Fixed("MSALCache.nocae"),
                },
                IDENTITY_SERVICE,
            ),
            encoding: Encoding::Base64,
            locks: Locks::Folders,
            writing: Writing::Guarded("a new item must not take the place of .NET's"),
            ..LINUX
        },
        SiteRule { place: PlaceRule::File(IDENTITY_SERVICE), ..LINUX },
        SiteRule {
            systems: &[System::MacOs],
            place: PlaceRule::Keychain {
                service: Word::Fixed(DEVELOPER),
                account: Word::NameWithBase(MSAL_CACHE),
                signals: IDENTITY_SERVICE,
            },
            locks: Locks::Folders,
            ..LINUX
        },
        WINDOWS,
    ],
};

static GO: Profile = Profile {
    id: "go",
    title: "Azure SDK for Go",
    names: Names { base: "msal.cache", suffixes: ["", ".cae"], custom: Some(["", ".cae"]) },
    sites: &[
        SiteRule {
            place: PlaceRule::File(Folder { base: Base::Cache, below: ".IdentityService", extension: "" }),
            encoding: Encoding::Jwe,
            locks: Locks::Beside,
            writing: ONLY_WITH_ITS_KEY,
            ..LINUX
        },
        SiteRule {
            systems: &[System::MacOs],
            place: PlaceRule::Keychain {
                service: Word::Name,
                account: Word::Fixed(MSAL_CACHE),
                signals: IDENTITY_SERVICE,
            },
            locks: Locks::Beside,
            ..LINUX
        },
        WINDOWS,
    ],
};

/// The file was where the other SDKs have their plaintext, and is still there (spec S-C 2.5).
static GO_OLD: Profile = Profile {
    id: "go-old",
    title: "Azure SDK for Go, cache module before 0.4",
    names: Names { base: "msal.cache", suffixes: ["", ".cae"], custom: None },
    sites: &[SiteRule {
        place: PlaceRule::File(IDENTITY_SERVICE),
        encoding: Encoding::Jwe,
        writing: ONLY_WITH_ITS_KEY,
        ..LINUX
    }],
};

static AZ: Profile = Profile {
    id: "az",
    title: "Azure CLI",
    names: Names { base: "msal_token_cache", suffixes: ["", ""], custom: None },
    sites: &[
        SiteRule {
            systems: &[System::Linux, System::MacOs],
            place: PlaceRule::File(Folder { base: Base::AzureConfig, below: "", extension: ".json" }),
            locks: Locks::Beside,
            ..LINUX
        },
        SiteRule {
            place: PlaceRule::Item(
                ItemRule {
                    schema: Word::Fixed("my_schema_name"),
                    attributes: &[("my_attr1", "foo"), ("my_attr2", "bar")],
                    label: Word::Fixed(""),
                },
                AZURE_BIN,
            ),
            locks: Locks::Beside,
            writing: Writing::ReadOnly {
                why: "the Azure CLI keeps it under placeholder names that it shares with its service principals",
                instead: "turn core.encrypt_token_cache off in az, or sign in with az itself",
            },
            ..LINUX
        },
        SiteRule {
            systems: &[System::Windows],
            place: PlaceRule::File(AZURE_BIN),
            encoding: Encoding::Dpapi,
            locks: Locks::Beside,
            ..LINUX
        },
    ],
};

static AZD: Profile = Profile {
    id: "azd",
    title: "Azure Developer CLI",
    names: Names { base: "cache", suffixes: ["", ""], custom: None },
    sites: &[
        SiteRule {
            systems: &[System::Linux, System::MacOs],
            place: PlaceRule::File(Folder { base: Base::AzdConfig, below: "auth/msal", extension: ".json" }),
            locks: Locks::Kept,
            ..LINUX
        },
        SiteRule {
            systems: &[System::Windows],
            place: PlaceRule::File(Folder { base: Base::AzdConfig, below: "auth/msal", extension: ".bin" }),
            encoding: Encoding::AzdEnvelope,
            locks: Locks::Kept,
            ..LINUX
        },
    ],
};

static AZ_POWERSHELL: Profile = Profile {
    id: "az-powershell",
    title: "Azure PowerShell",
    names: Names { base: "msal.cache", suffixes: BY_MODE, custom: None },
    sites: &DOTNET_SITES,
};

static GRAPH_POWERSHELL: Profile = Profile {
    id: "graph-powershell",
    title: "Microsoft Graph PowerShell",
    names: Names { base: "mg.msal.cache", suffixes: BY_MODE, custom: None },
    sites: &DOTNET_SITES,
};

static GCM: Profile = Profile {
    id: "gcm",
    title: "Git Credential Manager",
    names: Names { base: "msal.cache", suffixes: ["", ""], custom: None },
    sites: &[
        SiteRule {
            place: PlaceRule::Item(
                ItemRule {
                    schema: Word::Fixed("msal.cache"),
                    attributes: DOTNET_ATTRIBUTES,
                    label: Word::Fixed(MSAL_CACHE),
                },
                GCM_FOLDER,
            ),
            encoding: Encoding::Base64,
            locks: Locks::Beside,
            ..LINUX
        },
        SiteRule {
            systems: &[System::MacOs],
            place: PlaceRule::Keychain {
                service: Word::Fixed(DEVELOPER),
                account: Word::Fixed(MSAL_CACHE),
                signals: GCM_FOLDER,
            },
            locks: Locks::Beside,
            ..LINUX
        },
        SiteRule {
            systems: &[System::Linux, System::MacOs],
            place: PlaceRule::File(GCM_FOLDER),
            locks: Locks::Beside,
            ..LINUX
        },
        WINDOWS,
    ],
};

static GCM_APP: Profile = Profile {
    id: "gcm-app",
    title: "Git Credential Manager, for applications",
    names: Names { base: "app.cache", suffixes: ["", ""], custom: None },
    sites: &[
        SiteRule {
            place: PlaceRule::Item(
                ItemRule {
                    schema: Word::Fixed("app.cache"),
                    attributes: &[
                        ("MsalClientID", "GitCredentialManager.MSAL"),
                        ("GitCredentialManager.MSAL", "1.0.0.0"),
                    ],
                    label: Word::Fixed("AppCache"),
                },
                GCM_APP_FOLDER,
            ),
            encoding: Encoding::Base64,
            locks: Locks::Beside,
            writing: NOBODYS_SIGN_IN,
            ..LINUX
        },
        SiteRule {
            systems: &[System::MacOs],
            place: PlaceRule::Keychain {
                service: Word::Fixed("GitCredentialManager.MSAL"),
                account: Word::Fixed("AppCache"),
                signals: GCM_APP_FOLDER,
            },
            locks: Locks::Beside,
            writing: NOBODYS_SIGN_IN,
            ..LINUX
        },
        SiteRule {
            systems: &[System::Linux, System::MacOs],
            place: PlaceRule::File(GCM_APP_FOLDER),
            locks: Locks::Beside,
            writing: NOBODYS_SIGN_IN,
            ..LINUX
        },
        SiteRule {
            systems: &[System::Windows],
            place: PlaceRule::File(GCM_APP_FOLDER),
            encoding: Encoding::Dpapi,
            locks: Locks::Beside,
            writing: NOBODYS_SIGN_IN,
        },
    ],
};

/// .NET's, in which PowerShell keeps its caches, too: on Linux one item for all names.
const DOTNET_SITES: [SiteRule; 4] = [
    SiteRule {
        place: PlaceRule::Item(
            ItemRule { schema: Word::Fixed("msal.cache"), attributes: DOTNET_ATTRIBUTES, label: Word::Name },
            DOTNET_FOLDER,
        ),
        encoding: Encoding::Base64,
        locks: Locks::Beside,
        ..LINUX
    },
    SiteRule { place: PlaceRule::File(DOTNET_FOLDER), locks: Locks::Beside, ..LINUX },
    SiteRule {
        systems: &[System::MacOs],
        place: PlaceRule::Keychain {
            service: Word::Fixed(DEVELOPER),
            account: Word::Name,
            signals: DOTNET_FOLDER,
        },
        locks: Locks::Beside,
        ..LINUX
    },
    WINDOWS,
];

/// What most rows have in common; none is this.
const LINUX: SiteRule = SiteRule {
    systems: &[System::Linux],
    place: PlaceRule::File(IDENTITY_SERVICE),
    encoding: Encoding::Json,
    locks: Locks::BesideAndFolders,
    writing: Writing::Writable,
};

/// Where all default names are truly shared (spec S-C 2.2).
const WINDOWS: SiteRule = SiteRule {
    systems: &[System::Windows],
    place: PlaceRule::File(Folder { base: Base::LocalData, below: ".IdentityService", extension: "" }),
    encoding: Encoding::Dpapi,
    ..LINUX
};

const BY_MODE: [&str; 2] = [".nocae", ".cae"];

const DEVELOPER: &str = "Microsoft.Developer.IdentityService";
const MSAL_CACHE: &str = "MSALCache";
const OWNER: (&str, &str) = ("MsalClientID", DEVELOPER);
const DOTNET_ATTRIBUTES: &[(&str, &str)] = &[OWNER, (DEVELOPER, "1.0.0.0")];

const IDENTITY_SERVICE: Folder = Folder { base: Base::Home, below: ".IdentityService", extension: "" };
const DOTNET_FOLDER: Folder = Folder { base: Base::Data, below: ".IdentityService", extension: "" };
const GCM_FOLDER: Folder = Folder { base: Base::Home, below: ".local/.IdentityService", extension: "" };
const GCM_APP_FOLDER: Folder = Folder { base: Base::Home, below: ".gcm/msal", extension: "" };
const AZURE_BIN: Folder = Folder { base: Base::AzureConfig, below: "", extension: ".bin" };

const ONLY_WITH_ITS_KEY: Writing = Writing::Guarded("only while its key is in the kernel's keyring");
const NOBODYS_SIGN_IN: Writing = Writing::ReadOnly {
    why: "it holds an application's own tokens, no person's sign-in",
    instead: "let Git Credential Manager look after it: git credential-manager diagnose",
};
