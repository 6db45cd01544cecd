with days as (select date_day from {{ ref('tool_days') }})
select
    days.date_day::date as day,
    count(orders.order_id) as orders,
    coalesce(sum(orders.amount), 0) as amount
from days
left join {{ ref('order_events') }} as orders
    on {{ dbt.date_trunc('day', 'orders.ordered_at') }} = days.date_day
group by 1
