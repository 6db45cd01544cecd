select * from {{ ref('customers') }} order by paid_eur desc limit 3
