-- The daily totals are those of the orders.
select 1
where (select coalesce(sum(total), 0) from {{ ref('orders') }})
   <> (select coalesce(sum(total), 0) from {{ ref('orders_per_day') }})
