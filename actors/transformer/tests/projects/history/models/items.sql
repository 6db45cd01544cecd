{{ config(
    materialized='table',
    indexes=[{'columns': ['id'], 'unique': true}, {'columns': ['kind', 'price'], 'type': 'btree'}],
    pre_hook="insert into audit.runs values ('before {{ this.identifier }}')",
    post_hook=[
        "insert into audit.runs select 'items: ' || count(*) from {{ this }}",
        {'sql': 'vacuum {{ this }}', 'transaction': false}]
) }}
{% set day = var('day') | int %}
select id, kind, name, price::numeric(10, 2) as price, moved_at::timestamp as moved_at
from (values
    (1, 'pen', 'blue pen', 1.50, '2026-01-01 08:00'),
    (2, 'ink', 'ink', {{ '3.25' if day < 2 else '3.50' }}, '{{ '2026-01-01 09:00' if day < 2 else '2026-01-02 09:00' }}'),
    (3, 'cap', 'cap', 0.75, '2026-01-01 10:00')
    {%- if day > 1 %}, (4, 'pen', 'red pen', null, '2026-01-02 10:00'){% endif %}
) as v (id, kind, name, price, moved_at)
{% if day > 2 %}where id <> 3{% endif %}
