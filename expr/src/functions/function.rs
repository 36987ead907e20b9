//! How a function is declared: name, parameters, result type and a kernel over columns.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, ScalarValue, internal_err, plan_err};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use weir_dataflow::types::{LogicalField, LogicalType};

use super::call::Call;
use super::params::{Argument, Param, Returns, resolve};

/// Computes a column from the arguments' columns.
pub(crate) type Kernel = fn(&Call) -> Result<ArrayRef>;

/// A scalar function of Flink, or one that the planner puts in (`__...`).
#[derive(Debug)]
pub struct Function {
    pub(super) name: &'static str,
    aliases: Vec<String>,
    pub(super) params: &'static [Param],
    /// How many of `params` must be there.
    pub(super) required: usize,
    /// The last parameter may be repeated.
    pub(super) variadic: bool,
    pub(super) returns: Returns,
    nullability: Nullability,
    lazy: bool,
    signature: Signature,
    kernel: Kernel,
}

/// When the result may be NULL.
#[derive(Debug, Clone, Copy)]
enum Nullability {
    Always,
    /// If one of the arguments may be.
    AnyArgument,
    /// If all of the arguments may be.
    AllArguments,
    Never,
}

impl Function {
    pub(crate) fn new(
        name: &'static str,
        params: &'static [Param],
        returns: impl Into<Returns>,
        kernel: Kernel,
    ) -> Self {
        Self {
            name,
            aliases: Vec::new(),
            params,
            required: params.len(),
            variadic: false,
            returns: returns.into(),
            nullability: Nullability::Always,
            lazy: false,
            signature: Signature::user_defined(Volatility::Immutable),
            kernel,
        }
    }

    pub(crate) fn alias(mut self, name: &str) -> Self {
        self.aliases.push(name.to_owned());
        self
    }

    /// The last `count` parameters may be left out.
    pub(crate) fn optional(mut self, count: usize) -> Self {
        self.required = self.params.len() - count;
        self
    }

    /// The last parameter may come any number of times (also never, if it is optional).
    pub(crate) fn variadic(mut self) -> Self {
        self.variadic = true;
        self
    }

    /// Gives another value with each call.
    pub(crate) fn volatile(mut self) -> Self {
        self.signature = Signature::user_defined(Volatility::Volatile);
        self
    }

    /// NULL only if an argument is.
    pub(crate) fn strict(mut self) -> Self {
        self.nullability = Nullability::AnyArgument;
        self
    }

    /// NULL only if all arguments are.
    pub(crate) fn null_if_all_are(mut self) -> Self {
        self.nullability = Nullability::AllArguments;
        self
    }

    pub(crate) fn never_null(mut self) -> Self {
        self.nullability = Nullability::Never;
        self
    }

    /// Arguments behind the first have to be left alone where they are not needed.
    pub(crate) fn lazy(mut self) -> Self {
        self.lazy = true;
        self
    }

    /// The exact types that the arguments must be cast to, and the type of the result.
    ///
    /// # Errors
    /// If no cast makes the arguments fit.
    pub(crate) fn resolve(
        &self,
        arguments: &[Argument],
    ) -> Result<(Vec<LogicalType>, LogicalType)> {
        resolve(self, arguments)
    }

    fn nullable(&self, fields: &[FieldRef]) -> bool {
        match self.nullability {
            Nullability::Always => true,
            Nullability::Never => false,
            Nullability::AnyArgument => fields.iter().any(|field| field.is_nullable()),
            Nullability::AllArguments => fields.iter().all(|field| field.is_nullable()),
        }
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn short_circuits(&self) -> bool {
        self.lazy
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        internal_err!(
            "{}: the result type comes from return_field_from_args",
            self.name
        )
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let fields: Vec<FieldRef> = types
            .iter()
            .map(|data_type| Arc::new(Field::new("", data_type.clone(), true)))
            .collect();
        let arguments = arguments(self.name, &fields, &[])?;
        let (params, _) = self.resolve_types_only(&arguments)?;
        Ok(params.iter().map(LogicalType::to_arrow).collect())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let arguments = arguments(self.name, args.arg_fields, args.scalar_arguments)?;
        let (_, returns) = self.resolve(&arguments)?;
        let field = LogicalField {
            logical_type: returns,
            nullable: self.nullable(args.arg_fields),
        };
        Ok(Arc::new(field.to_field(self.name)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let volatile = self.signature.volatility == Volatility::Volatile;
        // A scalar of a list forgets the exact type of its elements.
        let list = matches!(args.return_field.data_type(), DataType::List(_));
        let constant = !volatile
            && !list
            && !args.args.is_empty()
            && args
                .args
                .iter()
                .all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let call = Call::new(self.name, args.args, rows, args.return_field.data_type())?;
        let result = (self.kernel)(&call)?;
        if constant {
            return ScalarValue::try_from_array(&result, 0).map(ColumnarValue::Scalar);
        }
        Ok(ColumnarValue::Array(result))
    }
}

impl Function {
    /// The parameters' types, where the result's can't be known because it hangs on literals.
    fn resolve_types_only(&self, arguments: &[Argument]) -> Result<(Vec<LogicalType>, ())> {
        super::params::resolve_params(self, arguments).map(|params| (params, ()))
    }
}

fn arguments<'a>(
    name: &str,
    fields: &[FieldRef],
    literals: &[Option<&'a ScalarValue>],
) -> Result<Vec<Argument<'a>>> {
    let mut arguments = Vec::with_capacity(fields.len());
    for (index, field) in fields.iter().enumerate() {
        let Some(logical_type) = LogicalType::from_field(field) else {
            return plan_err!(
                "{name} can't take an argument of the type {}",
                field.data_type()
            );
        };
        arguments.push(Argument {
            logical_type,
            nullable: field.is_nullable(),
            literal: literals.get(index).copied().flatten(),
        });
    }
    Ok(arguments)
}
