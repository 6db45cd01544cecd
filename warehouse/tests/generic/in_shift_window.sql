{#- Rows of a shift outside of its hours on the plant's clock. A window may cross midnight; a shift that no window
    names is left to its accepted_values test. -#}
{% test in_shift_window(model, shift_column, time_column, windows) %}
select shifts.shift, shifts.hour
from (
    select
        units.{{ shift_column }} as shift,
        extract(hour from {{ plant_time('units.' ~ time_column) }}) as hour
    from {{ model }} as units
) as shifts
where
    {%- for window in windows %}
    {% if not loop.first %}or {% endif -%}
    (shifts.shift = '{{ window.shift }}'
        and not (shifts.hour >= {{ window.from_hour }} {{ 'and' if window.from_hour < window.to_hour else 'or' }} shifts.hour < {{ window.to_hour }}))
    {%- endfor %}
{% endtest %}
