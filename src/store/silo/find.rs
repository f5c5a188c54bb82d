//! Where a cache could be. No content is read, and nobody is asked for anything.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::CacheError;
use crate::options::CacheName;

use super::super::Places;
use super::super::profile::{PROFILES, Profile, Site};
use super::{Place, Silo, Writing};

/// No person has so many caches; whoever made them wants to keep us busy.
const MOST_FILES: usize = 256;

/// Every place in which a tool that we know may keep a cache, whether there is one or not, and
/// whatever else lies in the folders that hold nothing but caches.
///
/// On Linux the Secret Service is asked, once and without a prompt, which items there are. Its
/// silos are left out where there is no Secret Service; where it is locked or does not answer they
/// are listed, and [`Silo::facts`] says so without asking again. In the order of
/// [`super::super::PROFILES`], and for each tool in that in which it looks itself.
#[must_use]
pub fn silos(places: &Places) -> Vec<Silo> {
    let keyring = look_into_keyring();
    let mut found = Found::of_defaults(places, &keyring);
    for folder in folders(places) {
        for name in names_in(&folder) {
            found.add_file(places, &folder, &name);
        }
    }
    if let Ok(names) = &keyring {
        found.add_items(places, names);
    }
    found.silos
}

/// Where one tool keeps the caches of a name at this moment, without and with continuous access
/// evaluation: the first place in which it looks and that works here. One silo if that is one place.
///
/// A tool that knows no names but its own keeps them under that.
#[must_use]
pub fn silos_of(profile: &'static Profile, name: &CacheName, places: &Places) -> Vec<Silo> {
    let keyring = look_into_keyring();
    let has_keyring = !matches!(&keyring, Err(CacheError::EncryptionUnavailable { .. }));
    // with the locks and signals of every tool that has its cache there, too
    let mut found = Found::of_defaults(places, &keyring);
    let mut wanted: Vec<Place> = Vec::new();
    for site in profile.sites_in_use(places, name, has_keyring) {
        wanted.push(site.place.clone());
        found.add(Some(profile), site, &keyring);
    }
    found.silos.retain(|silo| wanted.iter().any(|place| is_one_place(place, &silo.site.place)));
    found.silos
}

impl Place {
    /// Whether both are one, links followed. Labels tell nothing apart.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        is_one_place(self, other)
    }
}

struct Found {
    silos: Vec<Silo>,
}

impl Found {
    fn of_defaults(places: &Places, keyring: &Keyring) -> Self {
        let mut found = Self { silos: Vec::new() };
        for profile in PROFILES {
            for site in profile.default_sites(places) {
                found.add(Some(profile), site, keyring);
            }
        }
        found
    }

    fn add(&mut self, profile: Option<&'static Profile>, site: Site, keyring: &Keyring) {
        let mut trouble = None;
        if let (Place::SecretService { .. }, Err(error)) = (&site.place, keyring) {
            if matches!(error, CacheError::EncryptionUnavailable { .. }) {
                return;
            }
            trouble = Some(error.clone());
        }
        let there = self.silos.iter_mut().find(|silo| is_one_place(&silo.site.place, &site.place));
        match (there, profile) {
            (Some(silo), Some(profile)) => silo.share(profile, site),
            (Some(_), None) => {}
            (None, profile) => {
                self.silos.push(Silo { profiles: profile.into_iter().collect(), site, keyring: trouble });
            }
        }
    }

    /// Who could have made it: those whose suffix it has, else those who take any name.
    fn add_file(&mut self, places: &Places, folder: &Path, name: &str) {
        let place = Place::File(folder.join(name));
        if self.silos.iter().any(|silo| is_one_place(&silo.site.place, &place)) {
            return;
        }
        for by_suffix in [true, false] {
            let mut is_claimed = false;
            for profile in PROFILES {
                if let Some(site) = profile.custom_file(places, folder, name, by_suffix) {
                    self.add(Some(profile), site, &Ok(Vec::new()));
                    is_claimed = true;
                }
            }
            if is_claimed {
                return;
            }
        }
        self.add(None, Site::of_nobody(folder, name), &Ok(Vec::new()));
    }

    #[cfg(target_os = "linux")]
    fn add_items(&mut self, places: &Places, names: &[String]) {
        use super::super::profile::AZURE_IDENTITY;

        for name in names {
            if let Some(site) = AZURE_IDENTITY.encrypted_site(places, name) {
                self.add(Some(&AZURE_IDENTITY), site, &Ok(Vec::new()));
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    #[expect(clippy::unused_self, reason = "on Linux there are some")]
    fn add_items(&mut self, _places: &Places, _names: &[String]) {}
}

impl Silo {
    fn share(&mut self, profile: &'static Profile, site: Site) {
        if !self.is_of(profile.id) {
            self.profiles.push(profile);
        }
        if self.site.cae != site.cae || self.site.name != site.name {
            self.site.cae = self.site.cae.filter(|_| matches!(self.site.place, Place::File(_)));
        }
        self.site.files.add(site.files);
        // who may write it by its own rules may write it
        if matches!(site.writing, Writing::Writable) {
            self.site.writing = Writing::Writable;
        }
    }
}

/// The names of the caches that have an item of their own, or why nobody knows.
type Keyring = Result<Vec<String>, CacheError>;

#[cfg(target_os = "linux")]
fn look_into_keyring() -> Keyring {
    use super::super::secret_service::attributes_of_items;

    const OWNER: &[(&str, &str)] = &[("MsalClientID", "Microsoft.Developer.IdentityService")];
    let items = attributes_of_items(OWNER)?;
    let names = items.into_iter().filter(|attributes| attributes.len() == 2).filter_map(|mut attributes| {
        // Java's single item has the same shape, and a row of its own
        attributes.remove("xdg:schema").filter(|name| is_a_name(name) && name != "msal.cache")
    });
    Ok(names.collect::<BTreeSet<_>>().into_iter().collect())
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "on Linux there may be none")]
fn look_into_keyring() -> Keyring {
    Ok(Vec::new())
}

/// Names come from outside and become paths and lines of text.
fn is_a_name(name: &str) -> bool {
    CacheName::new(name).is_ok() && !name.contains(".damaged-")
}

fn folders(places: &Places) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for folder in PROFILES.iter().flat_map(|profile| profile.cache_folders(places)) {
        if !folders.iter().any(|known| true_path(known) == true_path(&folder)) {
            folders.push(folder);
        }
    }
    folders
}

/// What lies in the folder and is no lock, no temporary file, nothing set aside.
fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let names = entries.take(MOST_FILES).filter_map(|entry| {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        (is_a_name(&name) && !name.ends_with(".lockfile") && !is_folder).then_some(name)
    });
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Whether both lead to one thing, links followed.
fn is_one_place(one: &Place, other: &Place) -> bool {
    match (one, other) {
        (Place::File(one), Place::File(other)) => one == other || true_path(one) == true_path(other),
        _ => one.is(other),
    }
}

/// As far as the path exists: its folder may be a link, too.
fn true_path(path: &Path) -> PathBuf {
    if let Ok(path) = path.canonicalize() {
        return path;
    }
    match (path.parent().and_then(|folder| folder.canonicalize().ok()), path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}
