//! The shop's rows as this process sees them, and the joins that its model declares.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::Shop;

#[derive(Clone, Debug)]
pub struct Customer {
    pub id: i64,
    pub city: Option<String>,
    pub vip: bool,
}

#[derive(Clone, Debug)]
pub struct Order {
    pub id: i64,
    pub customer: i64,
    pub status: String,
    /// In hundredths.
    pub amount: Option<i64>,
    pub units: i64,
    pub weight: f64,
    pub at: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub struct Line {
    pub id: i64,
    pub order: i64,
    pub product: String,
    pub quantity: i64,
}

/// A joined row: what is there of each table.
pub type Joined<'t> = (Option<&'t Order>, Option<&'t Customer>, Option<&'t Line>);

pub struct Tables {
    pub customers: Vec<Customer>,
    pub orders: Vec<Order>,
    pub lines: Vec<Line>,
}

impl Tables {
    pub async fn fetch(shop: &Shop) -> Self {
        let pool = shop.database.pool();
        let customers: Vec<(i32, Option<String>, bool)> =
            sqlx::query_as("select id, city, vip from marts.customers")
                .fetch_all(pool)
                .await
                .unwrap();
        type Row = (i32, i32, String, Option<i64>, i32, f64, Option<i64>);
        let orders: Vec<Row> = sqlx::query_as(
            "select id, customer_id, status, (amount * 100)::bigint, units, weight,
                    (extract(epoch from placed_at))::bigint from marts.orders",
        )
        .fetch_all(pool)
        .await
        .unwrap();
        let lines: Vec<(i32, i32, String, i32)> =
            sqlx::query_as("select id, order_id, product, quantity from marts.lines")
                .fetch_all(pool)
                .await
                .unwrap();
        let customers = customers.into_iter().map(|(id, city, vip)| Customer {
            id: id.into(),
            city,
            vip,
        });
        let orders = orders
            .into_iter()
            .map(|(id, customer, status, amount, units, weight, at)| Order {
                id: id.into(),
                customer: customer.into(),
                status,
                amount,
                units: units.into(),
                weight,
                at: at.map(|at| Timestamp::from_second(at).unwrap()),
            });
        let lines = lines
            .into_iter()
            .map(|(id, order, product, quantity)| Line {
                id: id.into(),
                order: order.into(),
                product,
                quantity: quantity.into(),
            });
        Self {
            customers: customers.collect(),
            orders: orders.collect(),
            lines: lines.collect(),
        }
    }

    /// The rows of the cubes that a query touches, joined as the model says.
    pub fn joined(&self, cubes: &BTreeSet<&str>) -> Vec<Joined<'_>> {
        match cubes.iter().copied().collect::<Vec<_>>().as_slice() {
            ["Customers"] => self
                .customers
                .iter()
                .map(|it| (None, Some(it), None))
                .collect(),
            ["Lines"] => self.lines.iter().map(|it| (None, None, Some(it))).collect(),
            _ => {
                let mut rows: Vec<Joined<'_>> = Vec::new();
                for order in &self.orders {
                    let customer = self.customers.iter().find(|it| it.id == order.customer);
                    let customer = customer.filter(|_| cubes.contains("Customers"));
                    let mut lines: Vec<_> = self
                        .lines
                        .iter()
                        .filter(|it| it.order == order.id)
                        .map(Some)
                        .collect();
                    if lines.is_empty() || !cubes.contains("Lines") {
                        lines = vec![None];
                    }
                    rows.extend(lines.into_iter().map(|line| (Some(order), customer, line)));
                }
                rows
            }
        }
    }
}
