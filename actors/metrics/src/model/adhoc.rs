//! Members that a request brings along: they live in a copy of the model, for that request only.

use super::{
    Definition, Dimension, DimensionKind, DimensionSql, Member, MemberId, Model, Template,
};

impl Model {
    /// A copy in which nobody is refused anything: for what is built for everybody's use and checked
    /// when it is used.
    pub(crate) fn open_to_all(&self) -> Self {
        let mut open = self.clone();
        for cube in &mut open.cubes {
            cube.policies = None;
            cube.public = true;
            cube.members.iter_mut().for_each(|it| it.public = true);
        }
        open
    }

    /// Adds a dimension to a cube; its name is one that no file can take.
    pub(crate) fn add_dimension(
        &mut self,
        cube: usize,
        kind: DimensionKind,
        sql: Template,
    ) -> MemberId {
        let dimension = Dimension {
            kind,
            sql: DimensionSql::Expression(sql),
            primary_key: false,
            sub_query: false,
            granularities: Vec::new(),
            time_shifts: Vec::new(),
            suggest_filter_values: false,
        };
        self.add(cube, Definition::Dimension(dimension))
    }

    /// Adds a condition on the rows of a cube.
    pub(crate) fn add_segment(&mut self, cube: usize, sql: Template) -> MemberId {
        self.add(cube, Definition::Segment(sql))
    }

    fn add(&mut self, cube: usize, definition: Definition) -> MemberId {
        let owner = &mut self.cubes[cube];
        let index = owner.members.len();
        let name = format!("__own_{index}");
        let member = Member {
            full_name: format!("{}.{name}", owner.name),
            alias: format!("own_{index}"),
            title: name.clone(),
            short_title: name.clone(),
            description: None,
            public: true,
            meta: serde_json::Value::Null,
            format: None,
            currency: None,
            definition,
            mask: None,
            origin: None,
            sql: None,
            hash: String::new(),
            name: name.clone(),
        };
        let id = MemberId { cube, index };
        // Whoever adds a member checks what it reads.
        self.computed.insert(member.full_name.clone(), id);
        owner.by_name.insert(name, index);
        owner.members.push(member);
        id
    }
}
