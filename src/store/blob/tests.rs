use std::path::Path;
use std::sync::Mutex;

use secrecy::SecretString;

use super::super::encoding::Encoding;
use super::super::file::CacheFile;
use super::super::profile::AZURE_IDENTITY;
use super::*;
use crate::document::{Change, IssuedAccount, IssuedTokens, Origin};

const NAME: &str = "msal.cache.nocae";
const PATIENT: Duration = Duration::from_secs(60);

fn plaintext(home: &Path) -> BlobStore<CacheFile> {
    let files = AZURE_IDENTITY.files(home, NAME);
    let mut store = BlobStore::new(CacheFile::own(NAME, &files, Encoding::Json), files);
    store.waits = [Duration::ZERO; 3];
    store
}

/// A home with this content in its cache.
fn home_with(content: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let path = AZURE_IDENTITY.files(home.path(), NAME).path;
    create_private_folder(path.parent().unwrap());
    std::fs::write(path, content).unwrap();
    home
}

fn create_private_folder(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    }
}

fn sign_in(user: &str) -> ChangeSet {
    let secret = || SecretString::from(format!("secret of {user}"));
    ChangeSet::of(Change::Save(Box::new(IssuedTokens {
        home_account_id: format!("{user}.9188040d-6c67-4c5b-b112-36a304b66dad"),
        host: "login.microsoftonline.com".to_owned(),
        client_id: "04b07795-8ddb-461a-bbee-02f9e1bf7b46".to_owned(),
        requested_tenant: "organizations".to_owned(),
        token_tenant: None,
        scopes: vec!["https://vault.azure.net/.default".to_owned()],
        access_token: secret(),
        token_type: "Bearer".to_owned(),
        issued_at: UnixTime::from_seconds(1_700_000_000),
        expires_on: UnixTime::from_seconds(1_700_003_600),
        extended_expires_on: UnixTime::from_seconds(1_700_003_600),
        refresh_on: None,
        refresh_token: Some(secret()),
        family_id: None,
        id_token: None,
        account: Some(IssuedAccount {
            local_account_id: user.to_owned(),
            username: Some(format!("{user}@contoso.com")),
            name: None,
            authority_type: "MSSTS",
            client_info: None,
        }),
        origin: Origin::SignIn { grant_type: "authorization_code" },
    })))
}

fn users(store: &dyn Store) -> Vec<String> {
    let accounts = store.load().unwrap().document.accounts();
    let mut users: Vec<_> = accounts
        .into_iter()
        .map(|account| account.home_account_id.split('.').next().unwrap().to_owned())
        .collect();
    users.sort();
    users
}

/// Keeps its content in memory, and does something when it is read.
struct Kept<const IS_FILE: bool> {
    content: Mutex<Option<Vec<u8>>>,
    reads: Mutex<usize>,
    writes: Mutex<usize>,
    on_read: Box<OnRead>,
}

/// Is told how many reads there were, and may change the content first.
type OnRead = dyn Fn(usize, &mut Option<Vec<u8>>) + Send + Sync;
type Keyring = Kept<false>;

impl<const IS_FILE: bool> Kept<IS_FILE> {
    fn new(on_read: impl Fn(usize, &mut Option<Vec<u8>>) + Send + Sync + 'static) -> Self {
        let on_read = Box::new(on_read);
        Self { content: None.into(), reads: 0.into(), writes: 0.into(), on_read }
    }

    fn store(self, home: &Path) -> BlobStore<Self> {
        BlobStore::new(self, AZURE_IDENTITY.files(home, NAME))
    }
}

impl<const IS_FILE: bool> fmt::Debug for Kept<IS_FILE> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

impl<const IS_FILE: bool> Blob for Kept<IS_FILE> {
    const IS_FILE: bool = IS_FILE;

    fn describe(&self) -> StoreDescription {
        StoreDescription { cache: NAME.to_owned(), place: "memory".to_owned(), encrypted: true }
    }

    fn read(&self) -> Result<Option<Zeroizing<Vec<u8>>>, CacheError> {
        let mut content = self.content.lock().unwrap();
        let mut reads = self.reads.lock().unwrap();
        *reads += 1;
        (self.on_read)(*reads, &mut content);
        Ok(content.clone().map(Zeroizing::new))
    }

    fn write(&self, bytes: &[u8], _held: &CacheLock) -> Result<bool, CacheError> {
        *self.writes.lock().unwrap() += 1;
        *self.content.lock().unwrap() = Some(bytes.to_vec());
        Ok(true)
    }

    fn remove(&self, _held: &CacheLock) -> Result<(), CacheError> {
        *self.content.lock().unwrap() = None;
        Ok(())
    }

    fn set_aside(&self, now: UnixTime, held: &CacheLock) -> Result<String, CacheError> {
        self.remove(held)?;
        Ok(format!("{NAME}.damaged-{now}"))
    }
}

fn document_of(user: &str) -> Vec<u8> {
    let mut document = TokenCacheDocument::default();
    document.apply(&sign_in(user));
    document.to_bytes().to_vec()
}

#[test]
fn nothing_nothing_yet_and_an_empty_object_are_empty_caches() {
    let home = tempfile::tempdir().unwrap();
    assert!(plaintext(home.path()).load().unwrap().document.is_empty());
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0, "a read creates nothing");
    for content in ["", " \n", "{}"] {
        let home = home_with(content);
        assert!(plaintext(home.path()).load().unwrap().document.is_empty(), "{content:?}");
    }
}

#[test]
fn damaged_content_is_reported_and_never_touched() {
    for damaged in ["null", "[]", "{\"Account\": {", "eyJhbGciOiJkaXIifQ..a.b.c"] {
        let home = home_with(damaged);
        let store = plaintext(home.path());
        let deadline = Deadline::within(PATIENT);
        let stamp = store.stamp().unwrap();
        for result in [store.load().map(drop), store.apply(&sign_in("a"), deadline).map(drop)] {
            let error = result.unwrap_err();
            assert!(matches!(error, CacheError::Damaged { .. }), "{error}");
            assert!(error.to_string().contains(NAME), "{error}");
        }
        assert_eq!(store.stamp().unwrap(), stamp);

        let aside = store.discard(deadline).unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(aside).unwrap(), damaged);
        assert!(store.load().unwrap().document.is_empty());
    }
}

#[test]
fn half_of_a_file_is_read_again_until_it_is_whole() {
    let home = home_with("");
    let stages = |reads, content: &mut Option<Vec<u8>>| {
        *content = match reads {
            1 => Some(Vec::new()),
            2 | 3 => Some(b"{\"Account\": {".to_vec()),
            _ => Some(document_of("a")),
        }
    };
    let mut store = Kept::<true>::new(stages).store(home.path());
    store.waits = [Duration::ZERO; 3];
    std::fs::write(store.files.lock.first(), "1 python").unwrap();
    assert_eq!(users(&store), ["a"]);
    assert_eq!(*store.blob.reads.lock().unwrap(), 4);
}

#[test]
fn an_empty_file_is_believed_at_the_second_look_if_nobody_holds_the_lock() {
    let home = home_with("");
    let store = Kept::<true>::new(|_, content| *content = Some(Vec::new())).store(home.path());
    assert!(store.load().unwrap().document.is_empty());
    assert_eq!(*store.blob.reads.lock().unwrap(), 2);
}

#[test]
fn half_of_a_file_is_written_to_only_once_it_is_whole() {
    let home = home_with("");
    let stages = |reads, content: &mut Option<Vec<u8>>| match reads {
        1 => *content = Some(b"{".to_vec()),
        2 => *content = Some(document_of("theirs")),
        _ => {}
    };
    let store = Kept::<true>::new(stages).store(home.path());
    store.apply(&sign_in("ours"), Deadline::within(PATIENT)).unwrap();
    assert_eq!(users(&store), ["ours", "theirs"]);
}

#[test]
fn eight_threads_lose_nothing() {
    let home = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let store = plaintext(home.path());
            scope.spawn(move || {
                for number in 0..20 {
                    let change = sign_in(&format!("user-{thread}-{number}"));
                    store.apply(&change, Deadline::within(PATIENT)).unwrap();
                }
            });
        }
    });
    assert_eq!(users(&plaintext(home.path())).len(), 160);
    let folder = home.path().join(".IdentityService");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1);
}

#[test]
fn what_makes_no_difference_is_not_written() {
    let home = tempfile::tempdir().unwrap();
    let store = Keyring::new(|_, _| ()).store(home.path());
    let nothing = ChangeSet::of(Change::RemoveEverything);
    let snapshot = store.apply(&nothing, Deadline::within(PATIENT)).unwrap().snapshot;
    assert_eq!(*store.blob.writes.lock().unwrap(), 0);
    assert_eq!(snapshot.stamp, store.stamp().unwrap());
    assert!(!store.files.path.exists());
}

#[test]
fn a_keyring_is_signalled_after_the_write_and_never_asked_for_a_stamp() {
    let home = tempfile::tempdir().unwrap();
    let store = Keyring::new(|_, _| ()).store(home.path());
    let before = store.stamp().unwrap();
    let snapshot = store.apply(&sign_in("a"), Deadline::within(PATIENT)).unwrap().snapshot;
    let reads = *store.blob.reads.lock().unwrap();
    assert_ne!(store.stamp().unwrap(), before);
    assert_eq!(store.stamp().unwrap(), snapshot.stamp);
    assert_eq!(*store.blob.reads.lock().unwrap(), reads);
    assert_eq!(std::fs::read_to_string(&store.files.path).unwrap(), "{}");

    store.discard(Deadline::within(PATIENT)).unwrap();
    assert_ne!(store.stamp().unwrap(), snapshot.stamp);
    assert!(store.load().unwrap().document.is_empty());
}

#[test]
fn what_somebody_wrote_under_our_lock_is_merged_and_not_overwritten() {
    let home = tempfile::tempdir().unwrap();
    // between our reload and our write, as a program does that has locking turned off
    let keyring = Keyring::new(|reads, content| {
        if reads == 2 {
            *content = Some(document_of("theirs"));
        }
    });
    let store = keyring.store(home.path());
    store.apply(&sign_in("ours"), Deadline::within(PATIENT)).unwrap();
    assert_eq!(users(&store), ["ours", "theirs"]);
}

#[test]
fn a_lock_that_was_taken_away_is_taken_again_before_anything_is_written() {
    let home = tempfile::tempdir().unwrap();
    let lock = AZURE_IDENTITY.files(home.path(), NAME).lock.first().to_owned();
    // Node removes lock files that it does not own; Windows would not let it
    let keyring = Keyring::new(move |reads, _| {
        if reads == 2 && cfg!(unix) {
            std::fs::remove_file(&lock).unwrap();
        }
    });
    let store = keyring.store(home.path());
    store.apply(&sign_in("a"), Deadline::within(PATIENT)).unwrap();
    let reads = if cfg!(unix) { 4 } else { 2 };
    assert_eq!(*store.blob.reads.lock().unwrap(), reads);
    assert_eq!(*store.blob.writes.lock().unwrap(), 1);
}

#[test]
fn somebody_who_never_stops_writing_ends_in_a_timeout() {
    let home = tempfile::tempdir().unwrap();
    let store =
        Keyring::new(|reads, content| *content = Some(document_of(&format!("u{reads}")))).store(home.path());
    let error = store.apply(&sign_in("a"), Deadline::within(Duration::ZERO)).unwrap_err();
    assert!(matches!(error, CacheError::LockTimeout { .. }), "{error}");
    assert_eq!(*store.blob.writes.lock().unwrap(), 0);
}
