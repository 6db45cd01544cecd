//! Macros as host objects. Each body is a template of its own, so that arguments bind as Python's
//! do (varargs, kwargs, defaults that use earlier arguments) and `return()` can leave it.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use minijinja::value::{Object, ObjectRepr, Tuple, Value};
use minijinja::{Error, ErrorKind, State};

use super::context::NodeScope;
use super::lift::Param;
use super::values::MutableDict;

/// The name under which every context offers itself, so that a macro sees its caller's node.
pub(crate) const SCOPE: &str = "__scope";

/// Macros that call each other deeper than this are taken for an endless recursion: each level
/// holds a stack frame of the renderer.
const CALL_DEPTH_MAX: usize = 40;

thread_local! {
    static CALL_DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// What `return()` throws; caught by the macro that it leaves.
#[derive(Debug)]
pub(crate) struct ReturnSignal(pub(crate) Value);

impl fmt::Display for ReturnSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("return() outside of a macro")
    }
}

impl std::error::Error for ReturnSignal {}

/// The value of a `return()` that unwound to here.
pub(crate) fn returned(error: &Error) -> Option<Value> {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = source {
        if let Some(signal) = current.downcast_ref::<ReturnSignal>() {
            return Some(signal.0.clone());
        }
        source = current.source();
    }
    None
}

/// The macros of one package, by name.
pub(crate) type PackageMacros = Arc<BTreeMap<String, Value>>;

/// The macros of every package, and where `adapter.dispatch` looks for them.
#[derive(Debug, Default)]
pub(crate) struct MacroTable {
    packages: RwLock<HashMap<String, PackageMacros>>,
    search_order: RwLock<HashMap<String, Vec<String>>>,
}

impl MacroTable {
    pub(crate) fn insert(&self, package: &str, name: &str, value: Value) {
        let mut packages = self
            .packages
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let macros = packages.entry(package.to_owned()).or_default();
        Arc::make_mut(macros).insert(name.to_owned(), value);
    }

    pub(crate) fn package(&self, package: &str) -> Option<PackageMacros> {
        let packages = self.packages.read().unwrap_or_else(PoisonError::into_inner);
        packages.get(package).cloned()
    }

    pub(crate) fn find(&self, package: &str, name: &str) -> Option<Value> {
        let packages = self.packages.read().unwrap_or_else(PoisonError::into_inner);
        packages.get(package)?.get(name).cloned()
    }

    /// `dispatch:` of the project file: the packages to look in for the macros of a namespace.
    pub(crate) fn set_search_order(&self, namespace: &str, packages: Vec<String>) {
        let mut orders = self
            .search_order
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        orders.insert(namespace.to_owned(), packages);
    }

    pub(crate) fn search_order(&self, namespace: &str) -> Option<Vec<String>> {
        let orders = self
            .search_order
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        orders.get(namespace).cloned()
    }
}

/// A package's name in a template: `dbt_utils.star(…)`.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) package: String,
    pub(crate) table: Arc<MacroTable>,
}

impl Object for Namespace {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.table.find(&self.package, key.as_str()?)
    }
}

/// A context made of local names over what is below them.
#[derive(Debug)]
pub(crate) struct Scope {
    pub(crate) locals: HashMap<String, Value>,
    /// The macros of the package that the running macro belongs to.
    pub(crate) package: Option<PackageMacros>,
    pub(crate) base: Value,
}

impl Object for Scope {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        if let Some(value) = self.locals.get(key) {
            return Some(value.clone());
        }
        if key == SCOPE {
            return Some(self.base.clone());
        }
        if let Some(value) = self.package.as_ref().and_then(|macros| macros.get(key)) {
            return Some(value.clone());
        }
        self.base
            .get_attr(key)
            .ok()
            .filter(|value| !value.is_undefined())
    }
}

/// A macro of the project, a package or the built-in library.
#[derive(Debug)]
pub(crate) struct HostMacro {
    pub(crate) name: String,
    pub(crate) package: String,
    /// Where a macro of a package finds its neighbours; the root project's and the built-in macros
    /// are in every scope.
    pub(crate) table: Option<Arc<MacroTable>>,
    pub(crate) params: Vec<Param>,
    /// Name of the body's template in the environment.
    pub(crate) template: String,
    /// Whether the body reads `varargs` and `kwargs`; without, surplus arguments are errors.
    pub(crate) takes_varargs: bool,
    pub(crate) takes_kwargs: bool,
}

impl HostMacro {
    fn bind(
        &self,
        state: &mut State<'_, '_>,
        args: &[Value],
        base: &Value,
    ) -> Result<HashMap<String, Value>, Error> {
        let (positional, mut keywords) = split_keywords(args)?;
        let mut locals: HashMap<String, Value> = HashMap::new();
        if let Some(caller) = take(&mut keywords, "caller") {
            locals.insert("caller".to_owned(), captured_caller(state, &caller)?);
        }
        for (index, param) in self.params.iter().enumerate() {
            let value = match (
                positional.get(index).cloned(),
                take(&mut keywords, &param.name),
            ) {
                (Some(value), None) | (None, Some(value)) => value,
                (Some(_), Some(_)) => return Err(self.refuse(format!("'{}' twice", param.name))),
                (None, None) => match &param.default {
                    Some(default) => evaluate(state, default, locals.clone(), base)?,
                    None => Value::UNDEFINED,
                },
            };
            locals.insert(param.name.clone(), value);
        }
        let surplus = positional.get(self.params.len()..).unwrap_or_default();
        if !surplus.is_empty() && !self.takes_varargs {
            return Err(self.refuse(format!("more than {} arguments", self.params.len())));
        }
        if let (Some((name, _)), false) = (keywords.first(), self.takes_kwargs) {
            return Err(self.refuse(format!("an unknown argument '{name}'")));
        }
        let keywords = keywords
            .into_iter()
            .map(|(key, value)| (Value::from(key), value))
            .collect();
        locals.insert("varargs".to_owned(), Value::from(Tuple::from(surplus)));
        locals.insert("kwargs".to_owned(), MutableDict::value(keywords));
        Ok(locals)
    }

    fn refuse(&self, what: String) -> Error {
        Error::new(
            ErrorKind::TooManyArguments,
            format!("macro '{}' was given {what}", self.name),
        )
    }
}

impl Object for HostMacro {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let base = state.lookup(SCOPE).unwrap_or_default();
        let locals = self.bind(state, args, &base)?;
        let _depth = Depth::enter(&self.name)?;
        if CALL_DEPTH.get() == 1
            && let Some(scope) = base.downcast_object_ref::<NodeScope>()
        {
            scope.note_macro(&self.package, &self.name);
        }
        let package = self
            .table
            .as_ref()
            .and_then(|table| table.package(&self.package));
        let scope = Value::from_object(Scope {
            locals,
            package,
            base,
        });
        match state.env().get_template(&self.template)?.render(scope) {
            Ok(text) => Ok(Value::from(text)),
            Err(error) => returned(&error).ok_or_else(|| called_from_here(error)),
        }
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<macro {}>", self.name)
    }
}

/// An error of a macro's body, wrapped so that the place of the call is kept too: the chain of
/// sources is the stack of macros.
fn called_from_here(error: Error) -> Error {
    Error::new(error.kind(), error.detail().unwrap_or_default().to_owned()).with_source(error)
}

struct Depth;

impl Depth {
    fn enter(name: &str) -> Result<Self, Error> {
        let depth = CALL_DEPTH.get() + 1;
        if depth > CALL_DEPTH_MAX {
            let message = format!("macro '{name}' calls itself more than {CALL_DEPTH_MAX} deep");
            return Err(Error::new(ErrorKind::InvalidOperation, message));
        }
        CALL_DEPTH.set(depth);
        Ok(Self)
    }
}

impl Drop for Depth {
    fn drop(&mut self) {
        CALL_DEPTH.set(CALL_DEPTH.get().saturating_sub(1));
    }
}

/// Every argument of a call to a function, keywords last.
pub(crate) type Arguments = minijinja::value::Rest<minijinja::value::ValueOrKwargs>;

/// Keyword arguments in the order of the call.
pub(crate) type Keywords = Vec<(String, Value)>;

/// Positional and keyword arguments of a call.
pub(crate) fn split_keywords(args: &[Value]) -> Result<(Vec<Value>, Keywords), Error> {
    let Some((last, rest)) = args.split_last().filter(|(last, _)| last.is_kwargs()) else {
        return Ok((args.to_vec(), Vec::new()));
    };
    let mut keywords = Vec::new();
    for key in last.try_iter()? {
        keywords.push((key.to_string(), last.get_item(&key)?));
    }
    Ok((rest.to_vec(), keywords))
}

/// Removes a keyword argument.
pub(crate) fn take(keywords: &mut Vec<(String, Value)>, name: &str) -> Option<Value> {
    let at = keywords.iter().position(|(key, _)| key == name)?;
    Some(keywords.remove(at).1)
}

/// Evaluates an expression over `locals` and `base`.
fn evaluate(
    state: &State<'_, '_>,
    expression: &str,
    locals: HashMap<String, Value>,
    base: &Value,
) -> Result<Value, Error> {
    let scope = Value::from_object(Scope {
        locals,
        package: None,
        base: base.clone(),
    });
    state.env().compile_expression(expression)?.eval(scope)
}

/// The text of a call block. A block's macro can only run in the state that declared it, so it runs
/// here, before the body of the macro that it is given to.
fn captured_caller(state: &mut State<'_, '_>, caller: &Value) -> Result<Value, Error> {
    let text = caller.call(state, &[])?.to_string();
    Ok(Value::from_function(move || text.clone()))
}
