//! Both sides compared at one position of the log.

use super::*;

#[tokio::test]
async fn tables_are_compared_where_the_log_stands_while_it_goes_on() {
    let shop = Followed::with(&format!(
        "{ORDERS} create table other (id int primary key, v int); insert into other values (1, 1)"
    ))
    .await;
    shop.sync_proving().await.unwrap();
    let pool = shop.source.pool().clone();
    let writing = tokio::spawn(async move {
        for n in 0..200 {
            let sql = format!("update orders set amount = {n}; update other set v = {n}");
            run(&pool, &sql).await;
        }
    });
    while !writing.is_finished() {
        let report = shop.sync_proving().await.unwrap();
        assert_eq!(report.tables.len(), 2);
        for table in report.tables {
            assert!(
                table.proof.is_some_and(|proof| proof.holds()),
                "{:?}",
                table.table
            );
        }
    }
    writing.await.unwrap();
    // What was written last would mend the row.
    shop.sync_proving().await.unwrap();
    let tampering = "update raw.orders set amount = amount + 0.01 where id = 7";
    run(shop.warehouse.pool(), tampering).await;
    let differs = shop.sync_proving().await.unwrap_err();
    assert!(
        differs
            .to_string()
            .contains("raw.orders differs from public.orders"),
        "{differs}"
    );
    let SyncError::Tables { failures, report } = differs else {
        panic!("{differs}");
    };
    assert_eq!((failures.len(), report.tables.len()), (1, 1));
}
