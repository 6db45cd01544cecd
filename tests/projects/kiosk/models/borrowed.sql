{% for text in borrowed() %}
select {{ loop.index }} as id, '{{ text }}'::text as value {{ 'union all' if not loop.last }}
{% endfor %}
