//! Tokens as a query: recursive descent, with a bound on depth.

use serde_json::Value;

use super::ast::{Aggregate, Column, Comparison, Expression, Item, Operator, Path, Query, Select, Source, Step};
use super::function::Function;
use super::lexer::{Token, tokens};
use super::{QUERY_BYTES_MAX, QueryError};

/// Expressions inside one another.
const DEPTH_MAX: usize = 64;
/// Columns of an answer.
const ITEMS_MAX: usize = 100;
/// Words that end what stands before them, and so are no alias.
const CLAUSES: [&str; 10] = ["as", "from", "where", "group", "by", "order", "join", "having", "offset", "limit"];

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
}

impl Query {
    /// Reads a query.
    ///
    /// # Errors
    /// [`QueryError`] with the column of the first token that does not fit.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        if text.len() > QUERY_BYTES_MAX {
            return Err(QueryError::new(
                1,
                format!("the query has {} bytes, at most {QUERY_BYTES_MAX} are allowed", text.len()),
            ));
        }
        let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
        parser.query()
    }
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(_, token)| token)
    }

    fn second(&self) -> &Token {
        self.tokens.get(self.at + 1).map_or(&Token::End, |(_, token)| token)
    }

    fn column(&self) -> usize {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(1, |(column, _)| *column)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn unexpected<T>(&self, wanted: &str) -> Result<T, QueryError> {
        Err(QueryError::new(self.column(), format!("{} stands where {wanted} is expected", self.peek().shown())))
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word(found) if found.eq_ignore_ascii_case(word))
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        self.at += usize::from(found);
        found
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(found) if *found == sign);
        self.at += usize::from(found);
        found
    }

    fn need_word(&mut self, word: &str) -> Result<(), QueryError> {
        if self.take_word(word) { Ok(()) } else { self.unexpected(word) }
    }

    fn need_sign(&mut self, sign: &str) -> Result<(), QueryError> {
        if self.take_sign(sign) { Ok(()) } else { self.unexpected(&format!("{sign:?}")) }
    }

    fn query(&mut self) -> Result<Query, QueryError> {
        self.need_word("SELECT")?;
        let top = if self.is_word("top") && matches!(self.second(), Token::Number(_)) {
            self.at += 1;
            Some(self.whole_number()?)
        } else {
            None
        };
        let mut select = self.select()?;
        self.need_word("FROM")?;
        let (source, alias) = self.source()?;
        let mut filter = None;
        if self.take_word("where") {
            filter = Some(self.expression()?);
        }
        let mut group_by = Vec::new();
        if self.is_word("group") {
            let column = self.column();
            self.at += 1;
            self.need_word("BY")?;
            loop {
                group_by.push(self.path()?);
                if !self.take_sign(",") {
                    break;
                }
            }
            if select == Select::All {
                return Err(QueryError::new(column, "GROUP BY needs columns to be selected, not *"));
            }
        }
        if *self.peek() != Token::End {
            let wanted = match (&filter, group_by.is_empty()) {
                (_, false) => "\",\" or the end",
                (Some(_), _) => "AND, OR, GROUP BY or the end",
                (None, _) => "WHERE, GROUP BY or the end",
            };
            return self.unexpected(wanted);
        }
        let prefixes: Vec<String> = alias.into_iter().chain(["devices".to_owned()]).collect();
        if let Select::Items(items) = &mut select {
            for item in &mut *items {
                match &mut item.what {
                    Column::Value(expression) | Column::Aggregate(_, Some(expression)) => {
                        strip(expression, &prefixes);
                    }
                    Column::Aggregate(_, None) => {}
                }
            }
        }
        if let Some(filter) = &mut filter {
            strip(filter, &prefixes);
        }
        group_by.iter_mut().for_each(|path| strip_path(path, &prefixes));
        let query = Query { source, top, select, filter, group_by };
        check_groups(&query)?;
        Ok(query)
    }

    fn whole_number(&mut self) -> Result<u64, QueryError> {
        match self.peek() {
            Token::Number(number) if number.as_u64().is_some() => {
                let number = number.as_u64().unwrap_or_default();
                self.at += 1;
                Ok(number)
            }
            _ => self.unexpected("a whole number"),
        }
    }

    fn select(&mut self) -> Result<Select, QueryError> {
        if self.take_sign("*") {
            return Ok(Select::All);
        }
        let mut items: Vec<Item> = Vec::new();
        loop {
            let column = self.column();
            if items.len() == ITEMS_MAX {
                return Err(QueryError::new(column, format!("at most {ITEMS_MAX} columns can be selected")));
            }
            let (what, usual) = self.item()?;
            let name = match self.alias()? {
                Some(name) => name,
                None => usual.unwrap_or_else(|| format!("${}", items.len() + 1)),
            };
            items.push(Item { name, what, column });
            if !self.take_sign(",") {
                return Ok(Select::Items(items));
            }
        }
    }

    /// `AS name`, or a name alone.
    fn alias(&mut self) -> Result<Option<String>, QueryError> {
        if self.take_word("as") {
            return match self.next() {
                Token::Word(name) | Token::Name(name) | Token::Text(name) => Ok(Some(name)),
                _ => {
                    self.at -= 1;
                    self.unexpected("a name")
                }
            };
        }
        match self.peek() {
            Token::Word(name) if !CLAUSES.iter().any(|clause| clause.eq_ignore_ascii_case(name)) => {
                let name = name.clone();
                self.at += 1;
                Ok(Some(name))
            }
            _ => Ok(None),
        }
    }

    /// A column, and the name that it has unless it is given one: the last of its path's.
    fn item(&mut self) -> Result<(Column, Option<String>), QueryError> {
        if let (Token::Word(name), Token::Sign("(")) = (self.peek(), self.second()) {
            let aggregate = match name.to_ascii_lowercase().as_str() {
                "count" => Some(Aggregate::Count),
                "sum" => Some(Aggregate::Sum),
                "avg" => Some(Aggregate::Average),
                "min" => Some(Aggregate::Minimum),
                "max" => Some(Aggregate::Maximum),
                _ => None,
            };
            if let Some(aggregate) = aggregate {
                self.at += 2;
                let of_all = aggregate == Aggregate::Count;
                if of_all && self.take_sign(")") {
                    return Ok((Column::Aggregate(aggregate, None), None));
                }
                let inner = if of_all && self.take_sign("*") { None } else { Some(self.expression()?) };
                self.need_sign(")")?;
                return Ok((Column::Aggregate(aggregate, inner), None));
            }
        }
        let expression = self.expression()?;
        let usual = match &expression {
            Expression::Path(path) => path.iter().rev().find_map(|step| match step {
                Step::Member(name) => Some(name.clone()),
                Step::Index(_) => None,
            }),
            _ => None,
        };
        Ok((Column::Value(expression), usual))
    }

    fn source(&mut self) -> Result<(Source, Option<String>), QueryError> {
        if !self.take_word("devices") {
            return self.unexpected("devices or devices.modules");
        }
        let mut source = Source::Devices;
        if self.take_sign(".") {
            if self.is_word("jobs") {
                return Err(QueryError::new(
                    self.column(),
                    "devices.jobs is not supported: this server schedules no jobs",
                ));
            }
            if !self.take_word("modules") {
                return self.unexpected("modules");
            }
            source = Source::Modules;
        }
        let alias = self.alias()?;
        Ok((source, alias))
    }

    fn path(&mut self) -> Result<Path, QueryError> {
        match self.next() {
            Token::Word(name) => self.path_from(name),
            _ => {
                self.at -= 1;
                self.unexpected("the path of a property")
            }
        }
    }

    fn path_from(&mut self, first: String) -> Result<Path, QueryError> {
        let mut path = vec![Step::Member(first)];
        loop {
            if self.take_sign(".") {
                match self.next() {
                    Token::Word(name) | Token::Name(name) => path.push(Step::Member(name)),
                    _ => {
                        self.at -= 1;
                        return self.unexpected("the name of a property, or [[name]],");
                    }
                }
            } else if self.take_sign("[") {
                match self.peek() {
                    Token::Text(name) => {
                        path.push(Step::Member(name.clone()));
                        self.at += 1;
                    }
                    _ => {
                        let index = self.whole_number()?;
                        path.push(Step::Index(usize::try_from(index).unwrap_or(usize::MAX)));
                    }
                }
                self.need_sign("]")?;
            } else {
                return Ok(path);
            }
        }
    }

    fn expression(&mut self) -> Result<Expression, QueryError> {
        self.deeper(|parser| {
            let first = parser.conjunction()?;
            parser.chain(first, "or", Self::conjunction, Expression::Or)
        })
    }

    fn conjunction(&mut self) -> Result<Expression, QueryError> {
        let first = self.negation()?;
        self.chain(first, "and", Self::negation, Expression::And)
    }

    fn chain(
        &mut self,
        first: Expression,
        word: &str,
        part: fn(&mut Self) -> Result<Expression, QueryError>,
        make: fn(Vec<Expression>) -> Expression,
    ) -> Result<Expression, QueryError> {
        if !self.is_word(word) {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.take_word(word) {
            all.push(part(self)?);
        }
        Ok(make(all))
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, QueryError>) -> Result<T, QueryError> {
        if self.depth == DEPTH_MAX {
            return Err(QueryError::new(
                self.column(),
                format!("expressions are nested deeper than {DEPTH_MAX} levels"),
            ));
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    fn negation(&mut self) -> Result<Expression, QueryError> {
        if self.take_word("not") {
            return self.deeper(|parser| Ok(Expression::Not(Box::new(parser.negation()?))));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Expression, QueryError> {
        let left = self.sum()?;
        let comparison = match self.peek() {
            Token::Sign("=") => Comparison::Equal,
            Token::Sign("!=" | "<>") => Comparison::NotEqual,
            Token::Sign("<") => Comparison::Less,
            Token::Sign("<=") => Comparison::LessOrEqual,
            Token::Sign(">") => Comparison::Greater,
            Token::Sign(">=") => Comparison::GreaterOrEqual,
            _ => return self.membership(left),
        };
        self.at += 1;
        let right = self.sum()?;
        Ok(Expression::Compare(Box::new(left), comparison, Box::new(right)))
    }

    /// `IN`, `NIN`, `NOT IN` and a list in brackets of either form, or nothing.
    fn membership(&mut self, value: Expression) -> Result<Expression, QueryError> {
        let negated = if self.take_word("in") {
            false
        } else if self.take_word("nin") {
            true
        } else if self.is_word("not") && matches!(self.second(), Token::Word(word) if word.eq_ignore_ascii_case("in")) {
            self.at += 2;
            true
        } else {
            return Ok(value);
        };
        let end = match self.peek() {
            Token::Sign("[") => "]",
            Token::Sign("(") => ")",
            _ => return self.unexpected("\"[\""),
        };
        self.at += 1;
        let list = self.list(end)?;
        Ok(Expression::In { value: Box::new(value), list, negated })
    }

    /// Up to `end`, which may come at once.
    fn list(&mut self, end: &str) -> Result<Vec<Expression>, QueryError> {
        let mut items = Vec::new();
        if self.take_sign(end) {
            return Ok(items);
        }
        loop {
            items.push(self.expression()?);
            if self.take_sign(end) {
                return Ok(items);
            }
            if !self.take_sign(",") {
                return self.unexpected(&format!("\",\" or {end:?}"));
            }
        }
    }

    fn sum(&mut self) -> Result<Expression, QueryError> {
        let operators = [("+", Operator::Add), ("-", Operator::Subtract)];
        self.operation(&operators, Self::product)
    }

    fn product(&mut self) -> Result<Expression, QueryError> {
        let operators = [("*", Operator::Multiply), ("/", Operator::Divide), ("%", Operator::Remainder)];
        self.operation(&operators, Self::signed)
    }

    fn operation(
        &mut self,
        operators: &[(&str, Operator)],
        part: fn(&mut Self) -> Result<Expression, QueryError>,
    ) -> Result<Expression, QueryError> {
        let first = part(self)?;
        let mut rest = Vec::new();
        while let Token::Sign(sign) = self.peek()
            && let Some((_, operator)) = operators.iter().find(|(known, _)| known == sign)
        {
            self.at += 1;
            rest.push((*operator, part(self)?));
        }
        Ok(if rest.is_empty() { first } else { Expression::Arithmetic(Box::new(first), rest) })
    }

    fn signed(&mut self) -> Result<Expression, QueryError> {
        if self.take_sign("-") {
            return self.deeper(|parser| Ok(Expression::Negative(Box::new(parser.signed()?))));
        }
        self.operand()
    }

    fn operand(&mut self) -> Result<Expression, QueryError> {
        let column = self.column();
        match self.next() {
            Token::Number(number) => Ok(Expression::Literal(Value::Number(number))),
            Token::Text(text) => Ok(Expression::Literal(Value::String(text))),
            Token::Sign("(") => {
                let inner = self.expression()?;
                self.need_sign(")")?;
                Ok(inner)
            }
            Token::Sign("[") => Ok(Expression::List(self.list("]")?)),
            Token::Word(name) => self.named(name, column),
            _ => {
                self.at -= 1;
                self.unexpected("a value")
            }
        }
    }

    fn named(&mut self, name: String, column: usize) -> Result<Expression, QueryError> {
        if self.take_sign("(") {
            let Some((function, least, most)) = Function::named(&name) else {
                let shown: String = name.chars().take(40).collect();
                return Err(QueryError::new(
                    column,
                    format!("{shown:?} is no function; there are {}", Function::names()),
                ));
            };
            let args = self.list(")")?;
            if args.len() < least || args.len() > most {
                let wanted = if least == most { least.to_string() } else { format!("{least} to {most}") };
                let why = format!("{} takes {wanted} arguments, {} are given", name.to_lowercase(), args.len());
                return Err(QueryError::new(column, why));
            }
            return Ok(Expression::Call(function, args));
        }
        let follows = matches!(self.peek(), Token::Sign("." | "["));
        match name.to_ascii_lowercase().as_str() {
            "true" if !follows => Ok(Expression::Literal(Value::Bool(true))),
            "false" if !follows => Ok(Expression::Literal(Value::Bool(false))),
            "null" if !follows => Ok(Expression::Literal(Value::Null)),
            "and" | "or" | "not" | "in" | "nin" | "select" | "from" | "where" | "group" | "by" if !follows => {
                self.at -= 1;
                self.unexpected("a value")
            }
            _ => Ok(Expression::Path(self.path_from(name)?)),
        }
    }
}

fn strip_path(path: &mut Path, prefixes: &[String]) {
    if path.len() > 1 && matches!(&path[0], Step::Member(first) if prefixes.contains(first)) {
        path.remove(0);
    }
}

/// Takes the name of the source, or its alias, from the paths that begin with it.
fn strip(expression: &mut Expression, prefixes: &[String]) {
    match expression {
        Expression::Literal(_) => {}
        Expression::Path(path) => strip_path(path, prefixes),
        Expression::List(all) | Expression::Or(all) | Expression::And(all) | Expression::Call(_, all) => {
            all.iter_mut().for_each(|one| strip(one, prefixes));
        }
        Expression::Not(inner) | Expression::Negative(inner) => strip(inner, prefixes),
        Expression::Compare(one, _, other) => {
            strip(one, prefixes);
            strip(other, prefixes);
        }
        Expression::In { value, list, .. } => {
            strip(value, prefixes);
            list.iter_mut().for_each(|one| strip(one, prefixes));
        }
        Expression::Arithmetic(first, rest) => {
            strip(first, prefixes);
            rest.iter_mut().for_each(|(_, one)| strip(one, prefixes));
        }
    }
}

/// Of many documents only what they have in common can be shown.
fn check_groups(query: &Query) -> Result<(), QueryError> {
    let Select::Items(items) = &query.select else { return Ok(()) };
    if !query.is_grouped() {
        return Ok(());
    }
    for item in items {
        if let Column::Value(expression) = &item.what
            && !matches!(expression, Expression::Path(path) if query.group_by.contains(path))
        {
            return Err(QueryError::new(
                item.column,
                "this column is neither an aggregate nor in GROUP BY: which of the many should be shown?",
            ));
        }
    }
    Ok(())
}
