{{ config(materialized='table') }}
{%- set seen = namespace(total=0) -%}
{%- for number in range(4) if number is not divisibleby 2 -%}
    {%- set seen.total = seen.total + number -%}
{%- endfor -%}
{%- set facts = {'kind': 'a', 'size': 2} -%}
{%- set size = facts.pop('size') -%}
{%- set orders = ref('stg_orders') -%}
{%- call statement('counted', fetch_result=True) -%}
    select count(*) as orders, max(order_id) as newest from {{ orders }}
{%- endcall -%}
{%- if execute -%}
    {%- set counted = load_result('counted')['table'].rows[0] -%}
    {%- set there = adapter.get_relation(orders.database, orders.schema, orders.identifier) -%}
    {%- set tagged = graph.nodes.values() | selectattr('resource_type', 'equalto', 'model')
        | selectattr('config.materialized', 'equalto', 'ephemeral') | map(attribute='name') | sort -%}
{%- else -%}
    {%- set counted, there, tagged = {}, none, [] -%}
{%- endif %}
select
    {{ seen.total }} as total,
    '{{ facts | tojson }}' as facts,
    {{ size }} as size,
    {{ counted['orders'] or 0 }} as orders,
    '{{ there.type }}' as kind_of_orders,
    '{{ tagged | join(' ') }}' as ephemeral,
    '{{ modules.datetime.datetime(2024, 1, 31).strftime("%d.%m.%Y") }}' as day,
    '{{ modules.re.sub("[aeiou]", "", "orders") }}' as consonants,
    '{{ fromjson('{"b": [1, 2]}')["b"] | join("-") }}' as parts,
    '{{ env_var("SHOP_REGION", "nowhere") }}' as region,
    {{ flags.FULL_REFRESH }} as is_full,
    {{ zip([1, 2], ["x", "y"]) | list | length }} as pairs
