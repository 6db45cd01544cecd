{% set measures = [] %}
{% for measure in ['total'] %}{% do measures.append('sum(' ~ measure ~ ') as ' ~ measure) %}{% endfor %}
select ordered_at::date as day, count(*) as orders, {{ measures | join(', ') }}
from {{ ref('orders') }}
group by 1
