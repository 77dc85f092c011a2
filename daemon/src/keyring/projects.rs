//! Projects: named groups of keys. `default` always is, and has no record.

use claviger_protocol::Code;
use claviger_protocol::names::{Description, ProjectName};

use super::record::{Mark, ProjectRecord, path};
use super::{Keyring, index};
use crate::admission::Admitted;
use crate::audit::Trail;
use crate::failure::Failure;
use crate::store::{Change, Expect, Op, StoreError};

impl Keyring {
    /// Makes a project.
    pub async fn create_project(
        &self,
        _admitted: &Admitted,
        name: &ProjectName,
        description: &Description,
        created_by: String,
        trail: &mut Trail,
    ) -> Result<(), Failure> {
        let taken = || Failure::new(Code::AlreadyExists, "there is such a project already");
        if *name == ProjectName::default() {
            return Err(taken());
        }
        let created_at = self.edge.clock.now();
        let project = ProjectRecord {
            name: name.clone(),
            description: description.clone(),
            created_at,
            created_by,
            closing: false,
        };
        let op = self.project_op(&project, Expect::Absent)?;
        if self.committed(vec![op], trail).await? { Ok(()) } else { Err(taken()) }
    }

    /// Removes a project that holds nothing. First it is closed, so that nothing comes in
    /// while it is looked through; it opens again if it holds something.
    pub async fn delete_project(
        &self,
        _admitted: &Admitted,
        name: &ProjectName,
        trail: &mut Trail,
    ) -> Result<(), Failure> {
        if *name == ProjectName::default() {
            return Err(Failure::new(Code::InvalidArgument, "the project `default` always is"));
        }
        let (revision, project) = self.project(name).await?.ok_or_else(|| no_such_project(name))?;
        let closed = self.close_project(&project, revision, true).await?;
        let held = self.store.list::<Mark>(&index::by_project(name), None, 1).await;
        if !matches!(&held, Ok(held) if held.is_empty()) {
            self.close_project(&project, closed, false).await?;
        }
        if let Some(key_id) = held?.first().and_then(|(entry, _, _)| index::key_id(entry)) {
            let text = format!("the project holds keys, {key_id} among them; move them or delete them first");
            return Err(Failure::new(Code::NotEmpty, text));
        }
        let key = path::project(name.as_str());
        let op = Op { key, expect: Expect::Revision(closed), change: Change::Delete };
        if self.committed(vec![op], trail).await? { Ok(()) } else { Err(changing()) }
    }

    /// At most `limit` projects after the project `after`; `default` isn't among them.
    pub async fn projects(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<ProjectRecord>, StoreError> {
        let after = after.map(path::project);
        let page = self.store.list::<ProjectRecord>(path::PROJECTS, after.as_deref(), limit).await?;
        Ok(page.into_iter().map(|(_, _, project)| project).collect())
    }

    /// What holds a batch that puts something into a project to the project being there.
    pub(super) async fn project_check(&self, name: &ProjectName) -> Result<Vec<Op>, Failure> {
        if *name == ProjectName::default() {
            return Ok(Vec::new());
        }
        match self.project(name).await? {
            Some((revision, project)) if !project.closing => {
                let key = path::project(name.as_str());
                Ok(vec![Op { key, expect: Expect::Revision(revision), change: Change::Check }])
            }
            // Whether it goes or stays isn't known yet.
            Some(_) => Err(changing()),
            None => Err(no_such_project(name)),
        }
    }

    /// A project whose removal a former run left half-way is open again.
    pub(super) async fn reopen_projects(&self) -> Result<(), Failure> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.store.list::<ProjectRecord>(path::PROJECTS, after.as_deref(), PAGE).await?;
            for (_, revision, project) in page.iter().filter(|(_, _, project)| project.closing) {
                self.close_project(project, *revision, false).await?;
            }
            if page.len() < PAGE {
                return Ok(());
            }
            after = page.into_iter().last().map(|(path, _, _)| path);
        }
    }

    async fn project(&self, name: &ProjectName) -> Result<Option<(u64, ProjectRecord)>, StoreError> {
        self.store.get(&path::project(name.as_str())).await
    }

    async fn close_project(
        &self,
        project: &ProjectRecord,
        revision: u64,
        closing: bool,
    ) -> Result<u64, Failure> {
        let project = ProjectRecord { closing, ..project.clone() };
        let op = self.project_op(&project, Expect::Revision(revision))?;
        match self.commit(vec![op]).await {
            Ok(revision) => Ok(revision),
            Err(StoreError::Conflict { .. }) => Err(changing()),
            Err(error) => Err(error.into()),
        }
    }

    fn project_op(&self, project: &ProjectRecord, expect: Expect) -> Result<Op, StoreError> {
        let key = path::project(project.name.as_str());
        Ok(Op { change: Change::Put(self.store.put(&key, project)?), key, expect })
    }
}

/// Projects looked at in one read.
const PAGE: usize = 256;

fn no_such_project(name: &ProjectName) -> Failure {
    Failure::new(Code::NotFound, format!("no such project: {name}"))
}

fn changing() -> Failure {
    Failure::new(Code::Busy, "the project is being changed by others; try again")
}
