-- depends_on: {{ ref('prices') }}
{% set found = run_query("select 1.0::float8 as \"Whole\", 2::numeric as \"Number\", 'a' as \"Text\"") if execute %}
{% if execute %}
{% set table = found.rename(found.column_names | map('lower')) %}
{% set names = table.exclude(['text']).column_names %}
select {{ table.columns['whole'].values()[0] }} as whole, {{ table.rows[0]['number'] }} as number,
       '{{ names | join(",") }}' as names, '{{ graph.metrics.values() | map(attribute="name") | sort | join(",") }}' as metrics,
       '{{ graph.nodes["seed.kiosk.prices"].alias }}' as seed
{% endif %}
