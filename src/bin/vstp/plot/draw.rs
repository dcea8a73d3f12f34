//! The picture: three panels over one axis of time, as SVG.

use super::story::{Connection, Story};
use crate::units::show_bytes;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::error::Error;

const SIZE: (u32, u32) = (1000, 960);
const TITLE_HEIGHT: u32 = 40;
/// Points of the throughput, about.
const INTERVALS: usize = 200;
/// Connections with lines of their own: the busiest.
const SHOWN: usize = 8;
/// Sent and received, and the connections.
const COLORS: [RGBColor; SHOWN] = [
    RGBColor(0x1f, 0x77, 0xb4),
    RGBColor(0x2c, 0xa0, 0x2c),
    RGBColor(0xff, 0x7f, 0x0e),
    RGBColor(0x94, 0x67, 0xbd),
    RGBColor(0x8c, 0x56, 0x4b),
    RGBColor(0xe3, 0x77, 0xc2),
    RGBColor(0x17, 0xbe, 0xcf),
    RGBColor(0xbc, 0xbd, 0x22),
];
const LOST: RGBColor = RGBColor(0xd6, 0x27, 0x28);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

/// Numbers over time, with a name.
struct Series {
    name: String,
    color: RGBAColor,
    points: Vec<(f64, f64)>,
}

pub(super) fn svg(story: &Story) -> Result<String, Box<dyn Error>> {
    let mut out = String::new();
    {
        let root = SVGBackend::with_string(&mut out, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let (head, body) = root.split_vertically(TITLE_HEIGHT);
        head.draw_text(
            &title(story),
            &("sans-serif", 16).into_text_style(&head),
            (16, 14),
        )?;
        let panels = body.split_evenly((3, 1));
        throughput(&panels[0], story)?;
        let shown = busiest(story);
        round_trips(&panels[1], story, &shown)?;
        windows(&panels[2], story, &shown)?;
        root.present()?;
    }
    Ok(out)
}

fn title(story: &Story) -> String {
    let all = story.connections.len();
    let mut text = format!(
        "{all} connection{}, {:.1} s, {} sent, {} received",
        if all == 1 { "" } else { "s" },
        story.end,
        show_bytes(story.sent.total as u64),
        show_bytes(story.received.total as u64)
    );
    if story.lost_count > 0 {
        text += &format!(", {} lost", story.lost_count);
    }
    if all > SHOWN {
        text += &format!("; the {SHOWN} busiest are drawn one by one");
    }
    if story.missing > 0 {
        text += &format!("; {} events are missing in the log", story.missing);
    }
    text
}

/// With a colour each, in the order of the log.
fn busiest(story: &Story) -> Vec<(&Connection, RGBColor)> {
    let mut all: Vec<_> = story.connections.iter().enumerate().collect();
    all.sort_by(|a, b| b.1.bytes.total_cmp(&a.1.bytes));
    all.truncate(SHOWN);
    all.sort_by_key(|(index, _)| *index);
    let all = all.into_iter().map(|(_, connection)| connection);
    all.zip(COLORS).collect()
}

fn throughput(area: &Area<'_>, story: &Story) -> Drawn {
    let rates = |bins: &super::curve::Bins| -> Vec<(f64, f64)> {
        let rates = bins.rates(story.end, INTERVALS).into_iter();
        rates.map(|(time, bytes)| (time, bytes * 8.0)).collect()
    };
    let series = vec![
        Series {
            name: "sent".to_owned(),
            color: COLORS[0].to_rgba(),
            points: rates(&story.sent),
        },
        Series {
            name: "received".to_owned(),
            color: COLORS[1].to_rgba(),
            points: rates(&story.received),
        },
    ];
    let units = [
        (1e9, "Gbit/s"),
        (1e6, "Mbit/s"),
        (1e3, "kbit/s"),
        (1.0, "bit/s"),
    ];
    panel(area, "Throughput", &units, story.end, series, &[])
}

fn round_trips(area: &Area<'_>, story: &Story, shown: &[(&Connection, RGBColor)]) -> Drawn {
    let series = shown
        .iter()
        .filter(|(connection, _)| !connection.rtt.is_empty());
    let series = series.map(|(connection, color)| Series {
        name: connection.name.clone(),
        color: color.to_rgba(),
        points: connection.rtt.points(),
    });
    let units = [(1.0, "s"), (1e-3, "ms"), (1e-6, "us")];
    panel(
        area,
        "Round-trip time",
        &units,
        story.end,
        series.collect(),
        &[],
    )
}

fn windows(area: &Area<'_>, story: &Story, shown: &[(&Connection, RGBColor)]) -> Drawn {
    let mut series = Vec::new();
    for (connection, color) in shown {
        for (curve, name, opacity) in [
            (&connection.in_flight, "in flight", 0.4),
            (&connection.window, "window", 1.0),
        ] {
            if !curve.is_empty() {
                series.push(Series {
                    name: format!("{name}, {}", connection.name),
                    color: color.mix(opacity),
                    points: curve.points(),
                });
            }
        }
    }
    let units = [((1 << 20) as f64, "MiB"), (1024.0, "KiB"), (1.0, "bytes")];
    panel(
        area,
        "Congestion window",
        &units,
        story.end,
        series,
        &story.lost.points(),
    )
}

/// Axes with the largest unit that the highest value reaches, lines, and marks at the bottom for losses.
fn panel(
    area: &Area<'_>,
    title: &str,
    units: &[(f64, &str)],
    end: f64,
    series: Vec<Series>,
    lost: &[(f64, f64)],
) -> Drawn {
    let all = series.iter().flat_map(|series| &series.points);
    let highest = all.map(|(_, value)| *value).fold(0.0, f64::max);
    let fitting = units.iter().find(|(unit, _)| highest >= *unit);
    let (unit, unit_name) = *fitting.or(units.last()).unwrap_or(&(1.0, ""));
    // Room for the legend above the curves.
    let top = if highest > 0.0 {
        highest / unit * 1.2
    } else {
        1.0
    };
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(8)
        .margin_right(24)
        .x_label_area_size(38)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..end.max(1e-3), 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc("time (s)")
        .y_desc(unit_name)
        .light_line_style(TRANSPARENT)
        .x_label_formatter(&|value| shown(*value))
        .y_label_formatter(&|value| shown(*value))
        .draw()?;
    if series.is_empty() {
        let text = format!("no {} in this log", title.to_lowercase());
        let style = ("sans-serif", 14).into_font().color(&BLACK.mix(0.6));
        let middle = (end.max(1e-3) * 0.4, top / 2.0);
        chart.draw_series(std::iter::once(Text::new(text, middle, style)))?;
        return Ok(());
    }
    for Series {
        name,
        color,
        points,
    } in series
    {
        let points = points.into_iter().map(|(time, value)| (time, value / unit));
        chart
            .draw_series(LineSeries::new(points, color.stroke_width(1)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    if !lost.is_empty() {
        let marks = lost.iter();
        let marks = marks.map(|(time, _)| Circle::new((*time, 0.0), 2, LOST.filled()));
        chart
            .draw_series(marks)?
            .label("lost")
            .legend(|(x, y)| Circle::new((x + 8, y), 2, LOST.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 11))
        .draw()?;
    Ok(())
}

/// A number on an axis, without zeros that say nothing.
fn shown(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.to_owned()
}
